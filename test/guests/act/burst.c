// SPDX-License-Identifier: Apache-2.0
/* Acts that make the same call many times from many threads, and check what each returns. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_THREADS 256

struct burst {
	pthread_barrier_t start;
	long calls;
	long number;
	long arguments[3];
	/* Results that are descriptors differ, and are closed. */
	int opens;
	long expected;
	atomic_long wrong;
	atomic_long interrupted;
	atomic_int first_errno;
};

static atomic_long signals_seen;

static void count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&signals_seen, 1);
}

static void *make_calls(void *argument)
{
	struct burst *burst = argument;

	pthread_barrier_wait(&burst->start);
	for (long i = 0; i < burst->calls; i++) {
		long result = syscall(burst->number, burst->arguments[0], burst->arguments[1], burst->arguments[2]);

		if (result < 0 && errno == EINTR)
			atomic_fetch_add(&burst->interrupted, 1);
		if (burst->opens && result >= 0) {
			close((int)result);
		} else if (burst->opens || result != burst->expected) {
			int none = 0;

			atomic_compare_exchange_strong(&burst->first_errno, &none, result < 0 ? errno : 0);
			atomic_fetch_add(&burst->wrong, 1);
		}
	}
	return NULL;
}

/* Fills in which call it is. Returns 0, or -1 with errno EINVAL for a name that is not known. */
static int choose_call(struct burst *burst, int count, char **arguments)
{
	const char *name = arguments[2];

	if (strcmp(name, "getppid") == 0) {
		burst->number = SYS_getppid;
	} else if (strcmp(name, "getpgid") == 0) {
		burst->number = SYS_getpgid;
	} else if (strcmp(name, "getsid") == 0) {
		burst->number = SYS_getsid;
	} else if (strcmp(name, "open") == 0 && count > 3) {
		burst->number = SYS_openat;
		burst->arguments[0] = AT_FDCWD;
		burst->arguments[1] = (long)arguments[3];
		burst->arguments[2] = O_RDONLY | O_CLOEXEC;
		burst->opens = 1;
	} else {
		errno = EINVAL;
		return -1;
	}
	return 0;
}

/* Prints "ok", the number of calls, of EINTRs and of signals; or what went wrong first, and how often. */
static int run_burst(int count, char **arguments, int with_signals)
{
	struct burst burst = { .calls = atol(arguments[1]) };
	int threads = atoi(arguments[0]);
	pthread_t ids[MAX_THREADS];
	struct itimerval often = { .it_interval = { .tv_usec = 500 }, .it_value = { .tv_usec = 500 } };
	struct itimerval never = { 0 };
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };

	if (threads < 1 || threads > MAX_THREADS || choose_call(&burst, count, arguments) < 0) {
		errno = EINVAL;
		return report(-1);
	}
	/* One call by itself tells what all of them have to return. */
	if (!burst.opens)
		burst.expected = syscall(burst.number, burst.arguments[0], burst.arguments[1], burst.arguments[2]);
	if (with_signals && (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &often, NULL) < 0))
		return report(-1);
	pthread_barrier_init(&burst.start, NULL, (unsigned int)threads);
	for (int i = 0; i < threads; i++) {
		errno = pthread_create(&ids[i], NULL, make_calls, &burst);
		if (errno != 0)
			return report(-1);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	if (atomic_load(&burst.wrong) > 0) {
		int first = atomic_load(&burst.first_errno);

		printf("%s %ld\n", first ? strerrorname_np(first) : "wrong-result", atomic_load(&burst.wrong));
		return 1;
	}
	printf("ok %ld %ld %ld\n", burst.calls * threads, atomic_load(&burst.interrupted), atomic_load(&signals_seen));
	return 0;
}

static int plain_burst(int count, char **arguments)
{
	return run_burst(count, arguments, 0);
}

static int burst_with_signals(int count, char **arguments)
{
	return run_burst(count, arguments, 1);
}

const struct act burst_acts[] = {
	{ "burst", 3, plain_burst },
	{ "signals-during-burst", 3, burst_with_signals },
	{ 0 },
};
