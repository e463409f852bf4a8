// SPDX-License-Identifier: Apache-2.0
/*
 * The first process of a sandbox's PID namespace; or, where no Landlock layer confines signals, the subreaper
 * that keeps a sandbox's processes together. It tells the warden of each exit. When the warden closes
 * its socket, all that is below ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel.h"
#include "child.h"
#include "limits.h"
#include "namespaces.h"
#include "sweep.h"
#include "wire.h"

#define WARDEN_FD 3

static void on_child(int signal_number)
{
	(void)signal_number;
}

/*
 * Without a namespace the init has to kill, perhaps processes of another user; to watch limits it looks at such
 * processes. Nothing else needs a right.
 */
static void give_up_rights(bool namespaced, bool watches)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_capget, &header, data) < 0)
		_exit(126);
	data[0].permitted &= (namespaced ? 0 : 1u << CAP_KILL) | (watches ? 1u << CAP_SYS_PTRACE : 0);
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	data[1] = (struct __user_cap_data_struct){0};
	if (syscall(SYS_capset, &header, data) < 0)
		_exit(126);
}

static void tell(const struct init_message *message)
{
	/* When the warden is gone there is nobody to tell, and the loop ends at the end of the socket. */
	(void)!write(WARDEN_FD, message, sizeof(*message));
}

/* Reaps what ended. Returns false when no child is left. */
static bool reap(void)
{
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) {
		struct init_message exited = {.kind = INIT_EXITED, .pid = pid, .status = status};

		exited.user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
		exited.system_us =
			(uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec;
		exited.max_rss_kib = (uint64_t)usage.ru_maxrss;
		tell(&exited);
	}
	return pid == 0;
}

static pid_t start_main(const struct launch_setup *setup)
{
	pid_t pid;

	if (setup->namespaced && (setup->plan->flags & SG_PLAN_NEW_USER_NAMESPACE)) {
		struct subject subject;
		int r = map_ids(setup, &subject);

		if (r < 0)
			fail_launch(setup->status_fd, SG_STAGE_NAMESPACES, r, subject.bytes, subject.length);
	}
	pid = clone_process(CLONE_FILES, NULL);
	if (pid == 0)
		run_launch_child(setup);
	if (pid < 0)
		fail_launch(setup->status_fd, SG_STAGE_CLONE, pid, "clone", 5);
	return pid;
}

/* Gives the init a descriptor table of its own with the warden's socket alone. */
static void settle(const struct launch_setup *setup, pid_t main_pid, bool watches)
{
	struct init_message settled = {.kind = INIT_SETTLED, .pid = main_pid};

	if (syscall(NR_close_range, ~0u >> 1, ~0u, CLOSE_RANGE_UNSHARE_TABLE) < 0 ||
	    dup3(setup->init_fd, WARDEN_FD, O_CLOEXEC) < 0 || dup3(0, 1, 0) < 0 || dup3(0, 2, 0) < 0 ||
	    syscall(NR_close_range, WARDEN_FD + 1u, ~0u, 0) < 0)
		_exit(126);
	prctl(PR_SET_NAME, "sandgate-init", 0, 0, 0);
	give_up_rights(setup->namespaced, watches);
	tell(&settled);
}

static struct timespec time_until(uint64_t ns)
{
	uint64_t now_ns = monotonic_ns();
	uint64_t left_ns = ns > now_ns ? ns - now_ns : 0;

	return (struct timespec){.tv_sec = (time_t)(left_ns / 1000000000u), .tv_nsec = (long)(left_ns % 1000000000u)};
}

/*
 * Looks at the limits when it is time to. What is beyond one is killed here and now: until the warden has heard of
 * it and closes the socket, nothing that is born meanwhile lives for long.
 */
static void watch_limits(struct limits *limits, bool namespaced, uint64_t *next_look_ns)
{
	struct init_message beyond = {.kind = INIT_LIMIT};
	unsigned int wait_ms = 0;

	if (monotonic_ns() < *next_look_ns)
		return;
	beyond.status = look_at_limits(limits, &wait_ms);
	*next_look_ns = monotonic_ns() + (uint64_t)wait_ms * 1000000u;
	if (beyond.status == SG_LIMIT_NONE)
		return;
	beyond.user_us = limits->cpu_us;
	beyond.max_rss_kib = limits->peak_memory_bytes / 1024;
	tell(&beyond);
	if (beyond.status > SG_LIMIT_TASKS)
		return;
	if (namespaced)
		kill(-1, SIGKILL);
	else
		kill_descendants(NULL, NULL);
}

void run_init(const struct launch_setup *setup)
{
	struct sigaction child = {.sa_handler = on_child};
	static struct limits limits;
	const bool watches = start_limits(&limits, setup->plan);
	uint64_t next_look_ns = 0;
	sigset_t blocked, none;
	pid_t main_pid;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	setsid();
	if (setup->namespaced)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	main_pid = start_main(setup);
	sigaction(SIGCHLD, &child, NULL);
	settle(setup, main_pid, watches);
	for (;;) {
		struct pollfd wait = {.fd = WARDEN_FD, .events = POLLIN};

		const struct timespec soon = time_until(next_look_ns);

		if (ppoll(&wait, 1, watches ? &soon : NULL, &none) < 0 && errno != EINTR)
			break;
		if (wait.revents != 0)
			break;
		reap();
		if (watches)
			watch_limits(&limits, setup->namespaced, &next_look_ns);
	}
	if (!setup->namespaced)
		end_descendants(NULL, NULL, 0);
	_exit(0);
}
