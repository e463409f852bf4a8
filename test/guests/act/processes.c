// SPDX-License-Identifier: Apache-2.0
/* Acts on other processes, and ways to make more. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int kill_process(int count, char **arguments)
{
	(void)count;
	return report(kill(atoi(arguments[0]), atoi(arguments[1])));
}

/*
 * kill(-1): with 0, or no signal, it only asks whether there is anything to signal. Other signals are not sent where
 * process 1 could be signalled, so that a missing confinement does not end the machine.
 */
static int kill_all(int count, char **arguments)
{
	int signal_number = count > 0 ? atoi(arguments[0]) : 0;

	if (signal_number != 0 && kill(1, 0) == 0)
		return report_word("unconfined");
	return report(kill(-1, signal_number));
}

static int ptrace_process(int count, char **arguments)
{
	pid_t pid = atoi(arguments[0]);

	(void)count;
	return report(ptrace(PTRACE_SEIZE, pid, 0, 0));
}

/* A byte of the other's memory, at an address where none has any: EFAULT means that access was granted. */
static int read_memory(int count, char **arguments)
{
	char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 };
	struct iovec remote = { .iov_base = (void *)8, .iov_len = 1 };
	ssize_t got = process_vm_readv(atoi(arguments[0]), &local, 1, &remote, 1, 0);

	(void)count;
	return report(got < 0 && errno == EFAULT ? 0 : got);
}

/* Sets another's limit to what it is. */
static int prlimit_other(int count, char **arguments)
{
	pid_t pid = atoi(arguments[0]);
	struct rlimit limit;

	(void)count;
	if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0)
		return report(-1);
	return report(prlimit(pid, RLIMIT_NOFILE, &limit, NULL));
}

static int finish_child(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, __WALL);
	return report(pid);
}

static int fork_child(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return finish_child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

/* Flags that a filter of clone(2) cannot see, as they are in memory. */
static int clone3_newuser(int count, char **arguments)
{
	struct clone_args how = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };

	(void)count;
	(void)arguments;
	return finish_child(syscall(SYS_clone3, &how, sizeof(how)));
}

static int clone_newns(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return finish_child(syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
}

static int clone_newuser(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return finish_child(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}

/*
 * Leaves its session and its parent as a daemon does; prints the pid of what is left and sleeps for good. The first
 * process ends as soon as that was printed, or with "stay" sleeps too.
 */
static int setsid_double_fork(int count, char **arguments)
{
	int stay = count > 0 && strcmp(arguments[0], "stay") == 0;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		return report(-1);
	pid = fork();
	if (pid < 0)
		return report(-1);
	if (pid == 0) {
		if (setsid() < 0 || (pid = fork()) < 0)
			_exit(1);
		if (pid > 0)
			_exit(0);
		printf("%d\n", getpid());
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		close(ready[0]);
		close(ready[1]);
		for (;;)
			pause();
	}
	close(ready[1]);
	waitpid(pid, NULL, 0);
	if (read(ready[0], &byte, 1) != 1)
		return report_word("child-failed");
	while (stay)
		pause();
	return 0;
}

static long set_affinity(pid_t pid)
{
	cpu_set_t set;

	return sched_getaffinity(pid, sizeof(set), &set) < 0 ? -1 : sched_setaffinity(pid, sizeof(set), &set);
}

static long set_scheduler(pid_t pid)
{
	struct sched_param parameters = { 0 };

	return sched_setscheduler(pid, SCHED_OTHER, &parameters) < 0 ? -1 : sched_setparam(pid, &parameters);
}

static long set_limit(pid_t pid)
{
	struct rlimit limit;

	return prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0 ? -1 : prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
}

static long set_priority(pid_t pid)
{
	/* Whatever the tests themselves run with: a lower number needs a capability. */
	const int nicer = getpriority(PRIO_PROCESS, 0) < 19 ? getpriority(PRIO_PROCESS, 0) + 1 : 19;

	if (setpriority(PRIO_PROCESS, (id_t)pid, nicer) < 0)
		return -1;
	errno = 0;
	return getpriority(PRIO_PROCESS, (id_t)pid) == nicer && errno == 0 ? 0 : -1;
}

static long set_io_priority(pid_t pid)
{
	long value = syscall(SYS_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, pid);

	return value < 0 ? -1 : syscall(SYS_ioprio_set, 1, pid, 2 << 13 | 5 /* best effort */);
}

static long ask_clock(pid_t pid)
{
	clockid_t clock;
	struct timespec time;

	errno = clock_getcpuclockid(pid, &clock);
	return errno != 0 ? -1 : clock_gettime(clock, &time);
}

static long ask_group(pid_t pid)
{
	return getpgid(pid) < 0 ? -1 : getsid(pid);
}

static long ask_signal(pid_t pid)
{
	return kill(pid, 0);
}

/* Whoever is signalled about a descriptor. */
static long own_descriptor(pid_t pid)
{
	int fds[2];

	return pipe(fds) < 0 ? -1 : fcntl(fds[0], F_SETOWN, pid);
}

static pid_t other_thread;
static int thread_ready[2];

static void *be_a_thread(void *unused)
{
	(void)unused;
	other_thread = (pid_t)syscall(SYS_gettid);
	if (write(thread_ready[1], "x", 1) == 1)
		while (pause() < 0)
			;
	return NULL;
}

/*
 * Calls that name a process, each for a number: "self", "thread" (another of its own), "child", or a number. Prints a line
 * for each call.
 */
static int by_number(int count, char **arguments)
{
	static const struct {
		const char *name;
		long (*run)(pid_t pid);
	} calls[] = {
		{ "affinity", set_affinity },       { "scheduler", set_scheduler }, { "limit", set_limit },
		{ "priority", set_priority },       { "io-priority", set_io_priority },
		{ "clock", ask_clock },             { "group", ask_group },         { "signal", ask_signal },
		{ "descriptor", own_descriptor },
	};
	pid_t pid = atoi(arguments[0]);
	pid_t child = 0;
	pthread_t thread;
	char byte;

	(void)count;
	if (strcmp(arguments[0], "self") == 0)
		pid = getpid();
	if (strcmp(arguments[0], "thread") == 0) {
		if (pipe(thread_ready) < 0 || pthread_create(&thread, NULL, be_a_thread, NULL) != 0 ||
		    read(thread_ready[0], &byte, 1) != 1)
			return report(-1);
		pid = other_thread;
	}
	if (strcmp(arguments[0], "child") == 0) {
		pid = child = fork();
		while (child == 0)
			pause();
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		printf("%s ", calls[i].name);
		report(calls[i].run(pid));
	}
	if (child > 0)
		kill(child, SIGKILL);
	return 0;
}

static int sleep_for_good(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	printf("%d\n", getpid());
	while (pause() < 0)
		;
	return 0;
}

static int exit_with(int count, char **arguments)
{
	(void)count;
	return atoi(arguments[0]);
}

/* Forks until it is refused; every child sleeps. Prints how many there were, then the errno. */
static int fork_many(int count, char **arguments)
{
	int most = atoi(arguments[0]);
	int made = 0;
	pid_t pid = 0;

	(void)count;
	while (made < most && (pid = fork()) > 0)
		made++;
	if (made < most && pid == 0) {
		for (;;)
			pause();
	}
	printf("%d\n", made);
	return report(pid < 0 ? -1 : 0);
}

static void *sleep_in_thread(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* A process more, which sleeps. Returns a negative number when there is none. */
static long one_more(const char *kind)
{
	pthread_t thread;
	long pid;

	if (strcmp(kind, "thread") == 0) {
		errno = pthread_create(&thread, NULL, sleep_in_thread, NULL);
		return errno == 0 ? 1 : -1;
	}
	if (strcmp(kind, "fork") == 0)
		pid = fork();
#ifdef SYS_fork
	else if (strcmp(kind, "raw-fork") == 0)
		pid = syscall(SYS_fork);
#endif
	else
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid != 0)
		return pid;
	if (strcmp(kind, "setsid") == 0)
		setsid();
	for (;;)
		pause();
}

/*
 * Makes tasks of a kind until that is refused or there are so many; none of them ends. Prints how many there were,
 * then the errno. It sleeps with "stay", and unless with "end" when nothing was refused.
 */
static int bomb(int count, char **arguments)
{
	int most = atoi(arguments[1]);
	int made = 0;
	long result = 0;

	while (made < most && (result = one_more(arguments[0])) > 0)
		made++;
	if (result > 0 && !(count > 2 && strcmp(arguments[2], "end") == 0))
		for (;;)
			pause();
	printf("%d\n", made);
	report(result);
	if (count > 2 && strcmp(arguments[2], "stay") == 0)
		for (;;)
			pause();
	fflush(stdout);
	kill(0, SIGKILL);
	return 0;
}

const struct act process_acts[] = {
	{ "bomb", 2, bomb },
	{ "kill", 2, kill_process },
	{ "killall", 0, kill_all },
	{ "ptrace", 1, ptrace_process },
	{ "read-memory", 1, read_memory },
	{ "prlimit-other", 1, prlimit_other },
	{ "fork", 0, fork_child },
	{ "clone3-newuser", 0, clone3_newuser },
	{ "clone-newns", 0, clone_newns },
	{ "clone-newuser", 0, clone_newuser },
	{ "setsid-double-fork", 0, setsid_double_fork },
	{ "by-number", 1, by_number },
	{ "sleep", 0, sleep_for_good },
	{ "exit", 1, exit_with },
	{ "fork-many", 1, fork_many },
	{ 0 },
};
