// SPDX-License-Identifier: Apache-2.0
/*
 * What a second thread changes while the first one's call is judged. Each tries some hundred times and succeeds when it got
 * what it wanted once.
 */
#include "attack.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* At least so many tries, and so long: the other thread must have had its share of a busy machine. */
#define TRIES 300
#define TRY_MS 300

/* Two values of one piece of memory, which a thread writes in turn until it is told to stop. */
static struct {
	atomic_int stop;
	atomic_int turns;
	volatile char memory[512];
	char values[2][512];
	size_t size;
} race;

static void *flip_memory(void *unused)
{
	(void)unused;
	for (int turn = 0; !atomic_load(&race.stop); turn ^= 1) {
		for (size_t i = 0; i < race.size; i++)
			race.memory[i] = race.values[turn][i];
		atomic_fetch_add(&race.turns, 1);
	}
	return NULL;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static long run_race(void *(*flip)(void *), long (*try_once)(char **), char **arguments)
{
	pthread_t thread;
	long won = fail(EACCES);
	int error = EACCES;
	long end;

	if (pthread_create(&thread, NULL, flip, arguments) != 0)
		return -1;
	while (atomic_load(&race.turns) == 0)
		sched_yield();
	end = milliseconds() + TRY_MS;
	for (int i = 0; (i < TRIES || milliseconds() < end) && won < 0; i++) {
		won = try_once(arguments);
		if (won < 0)
			error = errno;
		sched_yield();
	}
	atomic_store(&race.stop, 1);
	pthread_join(thread, NULL);
	return won < 0 ? fail(error) : won;
}

/* Opens what is in memory; the file that was not granted has a content of its own. */
static long try_open(char **arguments)
{
	char content[16] = "";
	int fd = open((const char *)race.memory, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, content, sizeof(content) - 1);

	if (fd >= 0)
		close(fd);
	return got < 0 ? -1 : strcmp(content, arguments[2]) == 0 ? 0 : fail(EACCES);
}

/* ALLOWED WANTED CONTENT: paths of one length. */
static long race_path(char **arguments)
{
	snprintf(race.values[0], sizeof(race.values[0]), "%s", arguments[0]);
	snprintf(race.values[1], sizeof(race.values[1]), "%s", arguments[1]);
	race.size = strlen(arguments[1]) + 1;
	memcpy((char *)race.memory, race.values[0], race.size);
	return run_race(flip_memory, try_open, arguments);
}

/* A name in a directory of its own alternates between a link to the one and a link to the other. */
static void *flip_link(void *arguments)
{
	char **paths = arguments;
	char fresh[520];

	snprintf(fresh, sizeof(fresh), "%s.new", (const char *)race.memory);
	for (int turn = 0; !atomic_load(&race.stop); turn ^= 1) {
		unlink(fresh);
		if (symlink(paths[turn], fresh) == 0)
			rename(fresh, (const char *)race.memory);
		atomic_fetch_add(&race.turns, 1);
	}
	return NULL;
}

/* ALLOWED WANTED CONTENT DIRECTORY. */
static long race_link(char **arguments)
{
	snprintf((char *)race.memory, sizeof(race.memory), "%s/race-%d", arguments[3], getpid());
	return run_race(flip_link, try_open, arguments);
}

/* Directories trade places under a path that is being walked. */
static void *flip_directories(void *arguments)
{
	char **paths = arguments;

	while (!atomic_load(&race.stop)) {
		syscall(SYS_renameat2, AT_FDCWD, paths[0], AT_FDCWD, paths[1], 2 /* RENAME_EXCHANGE */);
		atomic_fetch_add(&race.turns, 1);
	}
	return NULL;
}

/* DIRECTORY LINK CONTENT: a directory with a file `file`, and a symbolic link to a directory that was not granted. */
static long race_directories(char **arguments)
{
	snprintf((char *)race.memory, sizeof(race.memory), "%s/file", arguments[0]);
	return run_race(flip_directories, try_open, arguments);
}

static long try_connect(char **arguments)
{
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	long result = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)race.memory, sizeof(peer));

	if (result == 0)
		result = getpeername(fd, (struct sockaddr *)&peer, &length);
	if (fd >= 0)
		close(fd);
	if (result < 0)
		return -1;
	return ntohs(peer.sin_port) == atoi(arguments[1]) ? 0 : fail(EACCES);
}

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

/* ALLOWED WANTED: ports of 127.0.0.1. */
static long race_port(char **arguments)
{
	struct sockaddr_in allowed = loopback(arguments[0]), wanted = loopback(arguments[1]);

	memcpy(race.values[0], &allowed, sizeof(allowed));
	memcpy(race.values[1], &wanted, sizeof(wanted));
	memcpy((char *)race.memory, &allowed, sizeof(allowed));
	race.size = sizeof(allowed);
	return run_race(flip_memory, try_connect, arguments);
}

/* The address is right, but its family says that there is none. ALLOWED WANTED. */
static long race_family(char **arguments)
{
	struct sockaddr_in wanted = loopback(arguments[1]), none = wanted;

	none.sin_family = AF_UNSPEC;
	memcpy(race.values[0], &none, sizeof(none));
	memcpy(race.values[1], &wanted, sizeof(wanted));
	memcpy((char *)race.memory, &none, sizeof(none));
	race.size = sizeof(none.sin_family);
	return run_race(flip_memory, try_connect, arguments);
}

static long try_connect_local(char **arguments)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(arguments[0]) + 1);
	long result = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)race.memory, length);

	if (fd >= 0)
		close(fd);
	return result;
}

/* The path of a service, and a name of the abstract namespace. PATH. */
static long race_abstract(char **arguments)
{
	struct sockaddr_un path = { .sun_family = AF_UNIX }, name = { .sun_family = AF_UNIX };

	snprintf(path.sun_path, sizeof(path.sun_path), "%s", arguments[0]);
	name = path;
	name.sun_path[0] = '\0';
	memcpy(race.values[0], &name, sizeof(name));
	memcpy(race.values[1], &path, sizeof(path));
	memcpy((char *)race.memory, &name, sizeof(name));
	race.size = offsetof(struct sockaddr_un, sun_path) + 1;
	return run_race(flip_memory, try_connect_local, arguments);
}

/* The socket becomes another one between look and act. ALLOWED WANTED. */
static void *flip_descriptor(void *arguments)
{
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int other = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)arguments;
	while (!atomic_load(&race.stop)) {
		dup2(other, 100);
		dup2(tcp, 100);
		atomic_fetch_add(&race.turns, 1);
	}
	close(tcp);
	close(other);
	return NULL;
}

static long try_connect_descriptor(char **arguments)
{
	struct sockaddr_in wanted = loopback(arguments[1]);

	return connect(100, (struct sockaddr *)&wanted, sizeof(wanted));
}

static long race_descriptor(char **arguments)
{
	return run_race(flip_descriptor, try_connect_descriptor, arguments);
}

const struct attack race_attacks[] = {
	{ "race-path", 3, race_path },
	{ "race-link", 4, race_link },
	{ "race-directories", 3, race_directories },
	{ "race-port", 2, race_port },
	{ "race-family", 2, race_family },
	{ "race-abstract", 1, race_abstract },
	{ "race-descriptor", 2, race_descriptor },
	{ 0 },
};
