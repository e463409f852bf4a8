// SPDX-License-Identifier: Apache-2.0
/*
 * Bare comparisons.
 *   latency COUNT PROGRAM [ARG…]           posix_spawn and wait, one after another; prints the median in µs
 *   rate PARALLEL COUNT PROGRAM [ARG…]     COUNT in all, PARALLEL at a time; prints how many a second
 *   threads THREADS COUNT PROGRAM [ARG…]   COUNT posix_spawns and waits in each thread; prints the µs for each
 *   landlock LAYERS PATH[:PATH…] PROGRAM [ARG…]   executes PROGRAM under so many equal layers that let it read the paths
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../native/kernel.h"

extern char **environ;

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return difference < 0 ? -1 : difference > 0;
}

static pid_t start(char **argv)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (posix_spawn(&pid, argv[0], &actions, NULL, argv, environ) != 0)
		exit(1);
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

static int latency(long count, char **argv)
{
	double *times = calloc((size_t)count, sizeof(*times));

	for (long i = 0; i < count; i++) {
		double from = now_us();
		int status;

		waitpid(start(argv), &status, 0);
		times[i] = now_us() - from;
	}
	qsort(times, (size_t)count, sizeof(*times), compare);
	printf("%.1f\n", times[count / 2]);
	return 0;
}

static int rate(long parallel, long count, char **argv)
{
	double from = now_us();
	long started = 0, running = 0, ended = 0;

	while (ended < count) {
		while (running < parallel && started < count) {
			start(argv);
			started++;
			running++;
		}
		if (waitpid(-1, NULL, 0) > 0) {
			running--;
			ended++;
		}
	}
	printf("%.1f\n", (double)count / ((now_us() - from) / 1e6));
	return 0;
}

struct burst {
	long count;
	char **argv;
};

static void *spawn_burst(void *context)
{
	const struct burst *burst = context;

	for (long i = 0; i < burst->count; i++)
		waitpid(start(burst->argv), NULL, 0);
	return NULL;
}

static int threads(long thread_count, long count, char **argv)
{
	struct burst burst = { count, argv };
	pthread_t *ids = calloc((size_t)thread_count, sizeof(*ids));
	double from = now_us();

	if (thread_count == 1)
		spawn_burst(&burst);
	for (long i = 0; thread_count > 1 && i < thread_count; i++)
		if (pthread_create(&ids[i], NULL, spawn_burst, &burst) != 0)
			return 1;
	for (long i = 0; thread_count > 1 && i < thread_count; i++)
		pthread_join(ids[i], NULL);
	printf("%.1f\n", (now_us() - from) / (double)(thread_count * count));
	return 0;
}

/* landlock(7): EXECUTE, READ_FILE, READ_DIR beneath each path; everything else that ABI 5 knows is refused. */
static int under_landlock(long layers, char *paths, char **argv)
{
	uint64_t handled = (1 << 16) - 1;
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);

	for (char *path = strtok(paths, ":"); path; path = strtok(NULL, ":")) {
		struct __attribute__((packed)) {
			uint64_t access;
			int32_t parent;
		} rule = { 1 << 0 | 1 << 2, open(path, O_PATH | O_CLOEXEC) };
		struct stat status;

		if (rule.parent < 0 || fstat(rule.parent, &status) < 0)
			continue; /* as in the baseline: what is not there grants nothing */
		if (S_ISDIR(status.st_mode))
			rule.access |= 1 << 3;
		if (syscall(SYS_landlock_add_rule, ruleset, 1, &rule, 0) < 0)
			return 1;
		close(rule.parent);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (long i = 0; i < layers; i++)
		if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
			return 1;
	close(ruleset);
	execv(argv[0], argv);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "latency") == 0)
		return latency(atol(argv[2]), argv + 3);
	if (argc >= 5 && strcmp(argv[1], "rate") == 0)
		return rate(atol(argv[2]), atol(argv[3]), argv + 4);
	if (argc >= 5 && strcmp(argv[1], "threads") == 0)
		return threads(atol(argv[2]), atol(argv[3]), argv + 4);
	if (argc >= 5 && strcmp(argv[1], "landlock") == 0)
		return under_landlock(atol(argv[2]), argv[3], argv + 4);
	return 2;
}
