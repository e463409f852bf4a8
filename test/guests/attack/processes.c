// SPDX-License-Identifier: Apache-2.0
/* Ways to another process, by its id, and out of the life of the sandbox. */
#include "attack.h"

#include <fcntl.h>
#include <linux/ioprio.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NR_pidfd_send_signal 424
#define NR_pidfd_open 434
#define NR_pidfd_getfd 438
#define NR_process_madvise 440
#define NR_process_mrelease 448

/* Each argument "0" is the first: the target's pid. The signal asks, or does nothing: it is ignored by default. */
#define HARMLESS SIGURG

static pid_t target(char **arguments)
{
	return atoi(arguments[0]);
}

static long signal_kill(char **arguments)
{
	return kill(target(arguments), HARMLESS);
}

/* Whether there is such a process: ESRCH says no, any other answer yes. */
static long asked(long result)
{
	return result < 0 && errno != ESRCH ? 0 : result;
}

static long exists_by_kill(char **arguments)
{
	return asked(kill(target(arguments), 0));
}

static long exists_by_tgkill(char **arguments)
{
	return asked(syscall(SYS_tgkill, target(arguments), target(arguments), 0));
}

static long exists_by_sigqueue(char **arguments)
{
	siginfo_t info = { .si_code = SI_QUEUE, .si_pid = getpid() };

	return asked(syscall(SYS_rt_sigqueueinfo, target(arguments), 0, &info));
}

static long exists_by_group(char **arguments)
{
	return getpgid(target(arguments));
}

static long exists_by_session(char **arguments)
{
	return getsid(target(arguments));
}

static long exists_by_pidfd(char **arguments)
{
	return syscall(NR_pidfd_open, target(arguments), 0);
}

static long exists_by_priority(char **arguments)
{
	errno = 0;
	return getpriority(PRIO_PROCESS, (id_t)target(arguments)) == -1 && errno != 0 ? asked(-1) : 0;
}

static long exists_by_affinity(char **arguments)
{
	cpu_set_t set;

	return asked(sched_getaffinity(target(arguments), sizeof(set), &set));
}

static long exists_by_scheduler(char **arguments)
{
	return asked(sched_getscheduler(target(arguments)));
}

static long exists_by_limit(char **arguments)
{
	struct rlimit limit;

	return asked(prlimit(target(arguments), RLIMIT_NOFILE, NULL, &limit));
}

static long signal_tkill(char **arguments)
{
	return syscall(SYS_tkill, target(arguments), HARMLESS);
}

static long signal_tgkill(char **arguments)
{
	return syscall(SYS_tgkill, target(arguments), target(arguments), HARMLESS);
}

static long signal_queue(char **arguments)
{
	siginfo_t info = { .si_signo = HARMLESS, .si_code = SI_QUEUE, .si_pid = getpid() };

	return syscall(SYS_rt_sigqueueinfo, target(arguments), HARMLESS, &info);
}

static long signal_thread_queue(char **arguments)
{
	siginfo_t info = { .si_signo = HARMLESS, .si_code = SI_QUEUE, .si_pid = getpid() };

	return syscall(SYS_rt_tgsigqueueinfo, target(arguments), target(arguments), HARMLESS, &info);
}

static long signal_pidfd(char **arguments)
{
	int fd = (int)syscall(NR_pidfd_open, target(arguments), 0);

	return fd < 0 ? -1 : syscall(NR_pidfd_send_signal, fd, HARMLESS, NULL, 0);
}

/* The kernel signals whoever owns the descriptor; it says to nobody whether it did. */
static long signal_by_owner(char **arguments)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
	    fcntl(fds[0], F_SETOWN, target(arguments)) < 0 || fcntl(fds[0], F_SETSIG, SIGTERM) < 0 ||
	    fcntl(fds[0], F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
		return -1;
	return write(fds[1], "x", 1);
}

static long trace(char **arguments)
{
	return ptrace(PTRACE_SEIZE, target(arguments), 0, 0);
}

static long attach(char **arguments)
{
	return ptrace(PTRACE_ATTACH, target(arguments), 0, 0);
}

/* A byte where none is: EFAULT means that access was granted. */
static long read_memory(char **arguments)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)8, 1 };
	ssize_t got = process_vm_readv(target(arguments), &local, 1, &remote, 1, 0);

	return got < 0 && errno == EFAULT ? 0 : got;
}

static long write_memory(char **arguments)
{
	char byte = 0;
	struct iovec local = { &byte, 1 }, remote = { (void *)8, 1 };
	ssize_t got = process_vm_writev(target(arguments), &local, 1, &remote, 1, 0);

	return got < 0 && errno == EFAULT ? 0 : got;
}

static long take_descriptor(char **arguments)
{
	int fd = (int)syscall(NR_pidfd_open, target(arguments), 0);

	return fd < 0 ? -1 : syscall(NR_pidfd_getfd, fd, 0, 0);
}

static long compare_objects(char **arguments)
{
	return syscall(SYS_kcmp, getpid(), target(arguments), KCMP_VM, 0, 0);
}

/* A name below /proc/PID. */
static long read_proc(char **arguments)
{
	char path[128], byte;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", arguments[0], arguments[1]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* The memory has nothing at its beginning: EIO means that it was opened for reading. */
	return read(fd, &byte, 1) < 0 && errno != EIO && errno != EISDIR ? -1 : 0;
}

static long walk_proc_root(char **arguments)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/%s/root%s", arguments[0], arguments[1]);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static long change_limit(char **arguments)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_CORE, &limit) < 0)
		return -1;
	limit.rlim_cur = 0;
	return prlimit(target(arguments), RLIMIT_CORE, &limit, NULL);
}

/* Never less than what the target has, which would need a capability. */
#define NICEST 19

static long change_priority(char **arguments)
{
	return setpriority(PRIO_PROCESS, (id_t)target(arguments), NICEST);
}

static long change_group_priority(char **arguments)
{
	return setpriority(PRIO_PGRP, (id_t)target(arguments), NICEST);
}

static long change_user_priority(char **arguments)
{
	(void)arguments;
	/* Of a user who has no processes: ESRCH means that everybody's would have been changed. */
	return asked(setpriority(PRIO_USER, 64999, 1)) < 0 ? 0 : -1;
}

static long raise_own_priority(char **arguments)
{
	(void)arguments;
	return setpriority(PRIO_PROCESS, 0, -5);
}

static long change_affinity(char **arguments)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -1;
	return sched_setaffinity(target(arguments), sizeof(set), &set);
}

static long change_scheduler(char **arguments)
{
	struct sched_param parameters = { 0 };

	return sched_setscheduler(target(arguments), SCHED_BATCH, &parameters);
}

static long change_parameters(char **arguments)
{
	struct sched_param parameters = { 0 };

	return sched_setparam(target(arguments), &parameters);
}

static long change_attributes(char **arguments)
{
	/* The lowest priority, which anybody may go to: size, policy, flags, then nice. */
	uint32_t attributes[12] = { sizeof(attributes), 0, 0, 0, 19 };

	return syscall(SYS_sched_setattr, target(arguments), attributes, 0);
}

static long real_time(char **arguments)
{
	struct sched_param parameters = { .sched_priority = 1 };

	(void)arguments;
	return sched_setscheduler(0, SCHED_FIFO, &parameters);
}

static long change_io_priority(char **arguments)
{
	return syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, target(arguments),
		       IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 5));
}

static long move_pages_of(char **arguments)
{
	void *page = (void *)4096;
	int status;

	return syscall(SYS_move_pages, target(arguments), 1ul, &page, NULL, &status, 0);
}

static long migrate_pages_of(char **arguments)
{
	unsigned long nodes = 1;

	return syscall(SYS_migrate_pages, target(arguments), 2ul, &nodes, &nodes);
}

static long advise(char **arguments)
{
	int fd = (int)syscall(NR_pidfd_open, target(arguments), 0);
	struct iovec range = { (void *)4096, 4096 };
	long result = syscall(NR_process_madvise, fd, &range, 1, MADV_COLD, 0);

	return result < 0 && errno == ENOMEM ? 0 : result;
}

static long release_memory(char **arguments)
{
	int fd = (int)syscall(NR_pidfd_open, target(arguments), 0);
	long result = syscall(NR_process_mrelease, fd, 0);

	/* It is not dying, so there is nothing to reap: EINVAL comes after every check of rights. */
	return result < 0 && errno == EINVAL ? 0 : result;
}

static long join_group(char **arguments)
{
	return setpgid(0, target(arguments));
}

/* Makes itself unreadable for whoever judges its calls. */
static long hide(char **arguments)
{
	(void)arguments;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static long let_anyone_trace(char **arguments)
{
	(void)arguments;
	return prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

/* Inherited descriptors other than the three. */
static long inherited_descriptor(char **arguments)
{
	(void)arguments;
	for (int fd = 3; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			return 0;
	}
	return fail(EBADF);
}

static long inherited_variable(char **arguments)
{
	return getenv(arguments[0]) ? 0 : fail(ENOENT);
}

static long controlling_terminal(char **arguments)
{
	(void)arguments;
	return open("/dev/tty", O_RDWR | O_CLOEXEC);
}

/* A service that goes on by itself. MARK PROGRAM: what it is found by in /proc, and the path of this guest. */
static long daemonize(char **arguments)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	alarm(0);
	if (setsid() < 0 || (pid = fork()) < 0)
		_exit(1);
	if (pid > 0)
		_exit(0);
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	execl(arguments[1], "attack", "--", "wait", arguments[0], NULL);
	_exit(1);
}

static long wait_for_good(char **arguments)
{
	(void)arguments;
	alarm(0);
	while (pause() < 0)
		;
	return 0;
}

const struct attack process_attacks[] = {
	{ "kill", 1, signal_kill },
	{ "tkill", 1, signal_tkill },
	{ "tgkill", 1, signal_tgkill },
	{ "sigqueue", 1, signal_queue },
	{ "thread-sigqueue", 1, signal_thread_queue },
	{ "signal-pidfd", 1, signal_pidfd },
	{ "signal-by-owner", 1, signal_by_owner },
	{ "exists-by-kill", 1, exists_by_kill },
	{ "exists-by-tgkill", 1, exists_by_tgkill },
	{ "exists-by-sigqueue", 1, exists_by_sigqueue },
	{ "exists-by-group", 1, exists_by_group },
	{ "exists-by-session", 1, exists_by_session },
	{ "exists-by-pidfd", 1, exists_by_pidfd },
	{ "exists-by-priority", 1, exists_by_priority },
	{ "exists-by-affinity", 1, exists_by_affinity },
	{ "exists-by-scheduler", 1, exists_by_scheduler },
	{ "exists-by-limit", 1, exists_by_limit },
	{ "trace", 1, trace },
	{ "attach", 1, attach },
	{ "read-memory", 1, read_memory },
	{ "write-memory", 1, write_memory },
	{ "take-descriptor", 1, take_descriptor },
	{ "compare-objects", 1, compare_objects },
	{ "read-proc", 2, read_proc },
	{ "walk-proc-root", 2, walk_proc_root },
	{ "change-limit", 1, change_limit },
	{ "change-priority", 1, change_priority },
	{ "change-group-priority", 1, change_group_priority },
	{ "change-user-priority", 0, change_user_priority },
	{ "raise-own-priority", 0, raise_own_priority },
	{ "change-affinity", 1, change_affinity },
	{ "change-scheduler", 1, change_scheduler },
	{ "change-parameters", 1, change_parameters },
	{ "change-attributes", 1, change_attributes },
	{ "real-time", 0, real_time },
	{ "change-io-priority", 1, change_io_priority },
	{ "move-pages", 1, move_pages_of },
	{ "migrate-pages", 1, migrate_pages_of },
	{ "advise", 1, advise },
	{ "release-memory", 1, release_memory },
	{ "join-group", 1, join_group },
	{ "hide", 0, hide },
	{ "let-anyone-trace", 0, let_anyone_trace },
	{ "inherited-descriptor", 0, inherited_descriptor },
	{ "inherited-variable", 1, inherited_variable },
	{ "controlling-terminal", 0, controlling_terminal },
	{ "daemonize", 2, daemonize },
	{ "wait", 1, wait_for_good },
	{ 0 },
};
