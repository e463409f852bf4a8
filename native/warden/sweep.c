// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sweep.h"
#include "wire.h"

#define GIVE_UP_MS 10000
#define DEPTH_LIMIT 64 /* deeper ones come up when those above them are dead */

static void kill_children(const char *process, spare_child spare, void *context, unsigned int depth);

static void kill_with_children(pid_t pid, unsigned int depth)
{
	char name[16];

	kill(pid, SIGKILL);
	snprintf(name, sizeof(name), "%d", (int)pid);
	if (depth < DEPTH_LIMIT)
		kill_children(name, NULL, NULL, depth + 1);
}

/* Reads a "children" file of proc(5): pids with a blank after each. */
static void kill_listed(int children_fd, spare_child spare, void *context, unsigned int depth)
{
	char buffer[4096];
	unsigned int pid = 0;
	ssize_t got;

	while ((got = read(children_fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			if (buffer[i] >= '0' && buffer[i] <= '9') {
				pid = pid * 10 + (unsigned int)(buffer[i] - '0');
				continue;
			}
			if (pid > 1 && (spare == NULL || !spare((pid_t)pid, context)))
				kill_with_children((pid_t)pid, depth);
			pid = 0;
		}
	}
}

/* Kills the children of each thread of a process. Threads and processes may vanish meanwhile. */
static void kill_children(const char *process, spare_child spare, void *context, unsigned int depth)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%s/task", process);
	tasks = opendir(path);
	if (tasks == NULL)
		return;
	while ((entry = readdir(tasks)) != NULL) {
		cleanup_close int children_fd = -1;
		char name[48];

		if (entry->d_name[0] == '.' || strlen(entry->d_name) > 16)
			continue;
		snprintf(name, sizeof(name), "%.16s/children", entry->d_name);
		children_fd = openat(dirfd(tasks), name, O_RDONLY | O_CLOEXEC);
		if (children_fd >= 0)
			kill_listed(children_fd, spare, context, depth);
	}
	closedir(tasks);
}

void kill_tree(pid_t pid)
{
	kill_with_children(pid, 0);
}

void kill_descendants(spare_child spare, void *context)
{
	kill_children("self", spare, context, 0);
}

void end_descendants(spare_child spare, void *context, unsigned int patience_ms)
{
	const uint64_t start_ns = monotonic_ns();

	for (;;) {
		uint64_t passed_ms = (monotonic_ns() - start_ns) / 1000000u;
		bool reaped = false;
		pid_t pid;

		if (passed_ms > GIVE_UP_MS)
			return;
		if (passed_ms > patience_ms)
			spare = NULL;
		kill_descendants(spare, context);
		while ((pid = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
			reaped = true;
		if (pid < 0 && errno == ECHILD)
			return;
		if (!reaped)
			poll(NULL, 0, 1);
	}
}
