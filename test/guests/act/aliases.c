// SPDX-License-Identifier: Apache-2.0
/* Ways to a file other than its path. */
#include "act.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int report_read(int fd)
{
	char byte;

	if (fd < 0)
		return report(fd);
	return report(read(fd, &byte, 1) < 0 ? -1 : 0);
}

static int read_at(int count, char **arguments)
{
	int directory = open(arguments[0], O_PATH | O_DIRECTORY);

	(void)count;
	return directory < 0 ? report(directory) : report_read(openat(directory, arguments[1], O_RDONLY));
}

/* By a descriptor that gives no access itself. */
static int read_reopened(int count, char **arguments)
{
	int fd = open(arguments[0], O_PATH);
	char path[64];

	(void)count;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd < 0 ? report(fd) : report_read(open(path, O_RDONLY));
}

static int read_by_root(int count, char **arguments)
{
	char path[4096];

	(void)count;
	snprintf(path, sizeof(path), "/proc/self/root%s", arguments[0]);
	return report_read(open(path, O_RDONLY));
}

/* From inside of its directory, and by /proc/self/cwd. */
static int read_inside(int count, char **arguments)
{
	char path[4096];
	int fd;

	(void)count;
	if (chdir(arguments[0]) < 0)
		return report(-1);
	fd = open(arguments[1], O_RDONLY);
	if (fd >= 0)
		return report_read(fd);
	snprintf(path, sizeof(path), "/proc/self/cwd/%s", arguments[1]);
	return report_read(open(path, O_RDONLY));
}

/* A path in hexadecimal digits: names may have any bytes. */
static int read_bytes(int count, char **arguments)
{
	char path[4096] = "";
	size_t length = strlen(arguments[0]) / 2;

	(void)count;
	for (size_t i = 0; i < length && i < sizeof(path) - 1; i++) {
		char digits[3] = { arguments[0][2 * i], arguments[0][2 * i + 1], 0 };

		path[i] = (char)strtol(digits, NULL, 16);
	}
	return report_read(open(path, O_RDONLY));
}

static int list_directory(int count, char **arguments)
{
	DIR *directory = opendir(arguments[0]);

	(void)count;
	if (!directory)
		return report(-1);
	errno = 0;
	while (readdir(directory))
		;
	return report(errno ? -1 : 0);
}

static struct {
	atomic_int stop;
	atomic_long tries;
	char **paths;
	long moves;
} mover;

static void *move_about(void *unused)
{
	(void)unused;
	while (!atomic_load(&mover.stop)) {
		mover.moves += rename(mover.paths[0], mover.paths[1]) == 0;
		mover.moves += rename(mover.paths[1], mover.paths[0]) == 0;
		atomic_fetch_add(&mover.tries, 1);
	}
	return NULL;
}

/*
 * race-move A B PATH… COUNT: a thread moves A to B and back, while each PATH is opened COUNT times.
 * Prints how many opens and moves succeeded.
 */
static int race_move(int count, char **arguments)
{
	long tries = strtol(arguments[count - 1], NULL, 10), opened = 0;
	pthread_t thread;

	mover.paths = arguments;
	pthread_create(&thread, NULL, move_about, NULL);
	for (long i = 0; i < tries || atomic_load(&mover.tries) == 0; i++)
		for (int path = 2; path < count - 1; path++) {
			int fd = open(arguments[path], O_RDONLY);

			opened += fd >= 0;
			if (fd >= 0)
				close(fd);
		}
	atomic_store(&mover.stop, 1);
	pthread_join(thread, NULL);
	printf("opened %s moved %s\n", opened > 0 ? "some" : "none", mover.moves > 0 ? "some" : "none");
	return 0;
}

const struct act alias_acts[] = {
	{ "read-at", 2, read_at },
	{ "read-reopened", 1, read_reopened },
	{ "read-by-root", 1, read_by_root },
	{ "read-inside", 2, read_inside },
	{ "read-bytes", 1, read_bytes },
	{ "list", 1, list_directory },
	{ "race-move", 4, race_move },
	{ 0 },
};
