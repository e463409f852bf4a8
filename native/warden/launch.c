// SPDX-License-Identifier: Apache-2.0
/* The steps from a new process to its program. Their order is enum sg_stage; see it in abi.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "child.h"
#include "confine.h"
#include "mounts.h"
#include "namespaces.h"
#include "plan.h"
#include "program.h"
#include "raw.h"
#include "ruleset.h"
#include "survey.h"
#include "wire.h"

#define KEEPER_STACK (256u << 10)
#define STATUS_FD 3 /* of a child that has its own descriptor table */

struct child {
	struct launch_page *page;
	struct plan plan;
	int stdio[3];
	int status_fd;
	pid_t inner_pid;
	int ruleset_fd; /* of the outer layer, until the inner one is entered */
	bool owns_ruleset;
	struct rlimit open_files;
	char program[PATH_MAX];
};

pid_t clone_process(unsigned long flags, int32_t *parent_tid)
{
	if (parent_tid != NULL)
		flags |= CLONE_PARENT_SETTID;
	return (pid_t)raw_call(SYS_clone, (long)(flags | SIGCHLD), 0, (long)parent_tid, 0, 0);
}

void fail_launch(int status_fd, uint32_t stage, int error, const char *argument, size_t length)
{
	struct {
		struct status_message head;
		char argument[PATH_MAX];
	} message = {.head = {.kind = STATUS_FAILED, .stage = stage, .error = error, .listener_fd = -1}};

	if (length > sizeof(message.argument))
		length = sizeof(message.argument);
	memcpy(message.argument, argument, length);
	message.head.detail = (uint32_t)length;
	/* When this cannot be sent the warden is gone, or learns the stage from the shared page. */
	(void)!raw_write(status_fd, &message, sizeof(message.head) + length);
	_exit(127);
}

static void enter(struct child *child, enum sg_stage stage)
{
	child->page->stage = stage;
	child->page->stage_ns[stage] = monotonic_ns();
}

/* The descriptor table is the warden's. */
static void drop_ruleset(struct child *child)
{
	if (child->owns_ruleset)
		raw_close(&child->ruleset_fd);
	child->owns_ruleset = false;
}

static _Noreturn void fail(struct child *child, int error, const char *argument)
{
	drop_ruleset(child);
	fail_launch(child->status_fd, child->page->stage, error, argument, strlen(argument));
}

static _Noreturn void fail_about(struct child *child, int error, const struct subject *subject)
{
	drop_ruleset(child);
	fail_launch(child->status_fd, child->page->stage, error, subject->bytes, subject->length);
}

/* The kernel clears this when ids change. `parent` is 0 when an init is the parent. */
static void die_with_parent(struct child *child, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		fail(child, -errno, "parent_death_signal");
	if (parent != 0 && getppid() != parent)
		fail(child, -ESRCH, "warden");
}

static void reset_signals(void)
{
	sigset_t none;

	/* The warden was started with all at their defaults but this one. */
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void take_terminal(struct child *child)
{
	if (!(child->plan.head->flags & SG_PLAN_TERMINAL))
		return;
	enter(child, SG_STAGE_TERMINAL);
	if (ioctl(child->stdio[0], TIOCSCTTY, 0) < 0)
		fail(child, -errno, "stdin");
}

static void enter_directory(struct child *child)
{
	enter(child, SG_STAGE_CWD);
	if (chdir(child->plan.cwd) < 0)
		fail(child, -errno, child->plan.cwd);
}

static void choose_program(struct child *child)
{
	int r;

	enter(child, SG_STAGE_PROGRAM);
	r = find_program(&child->plan, child->program);
	if (r < 0)
		fail(child, r, child->plan.argv[0]);
}

static void report(struct child *child, enum status_kind kind)
{
	struct status_message message = {.kind = kind, .stage = child->page->stage, .inner_pid = child->inner_pid};

	message.listener_fd = child->page->listener_fd;
	message.open_files_soft = child->open_files.rlim_cur;
	message.open_files_hard = child->open_files.rlim_max;
	memcpy(message.stage_ns, child->page->stage_ns, sizeof(message.stage_ns));
	/* write, not sendmsg: the filter is in place and may hold that one. */
	if (raw_write(child->status_fd, &message, sizeof(message)) != (ssize_t)sizeof(message))
		_exit(127);
}

/* Tells the warden that the process is confined, then waits until the engine serves its listener. */
static void wait_for_engine(struct child *child, int go_fd)
{
	uint64_t go;

	enter(child, SG_STAGE_ATTACH);
	report(child, STATUS_READY);
	for (;;) {
		ssize_t got = raw_read(go_fd, &go, sizeof(go));

		if (got == (ssize_t)sizeof(go))
			return;
		if (got != -EINTR)
			fail(child, got < 0 ? (int)got : -EPIPE, "go");
	}
}

/* Gives the process a descriptor table with 0, 1, 2 and, until exec, the status socket. */
static void arrange_descriptors(struct child *child, bool shared)
{
	int r = 0;

	enter(child, SG_STAGE_DESCRIPTORS);
	if (shared)
		r = (int)raw_call(NR_close_range, INT_MAX, ~0u, CLOSE_RANGE_UNSHARE_TABLE, 0, 0);
	if (r < 0)
		fail(child, r, "unshare");
	for (int i = 0; i < 3; i++) {
		r = raw_dup3(child->stdio[i], i, 0);
		if (r < 0)
			fail(child, r, "stdio");
	}
	r = raw_dup3(child->status_fd, STATUS_FD, O_CLOEXEC);
	if (r < 0)
		fail(child, r, "status");
	child->status_fd = STATUS_FD;
	r = (int)raw_call(NR_close_range, STATUS_FD + 1u, ~0u, 0, 0, 0);
	if (r < 0)
		fail(child, r, "close_range");
}

/* The warden has set the limit of open files, unless it lacks the right to do so for another user's process. */
static void check_open_files(struct child *child)
{
	struct rlimit current;
	int r;

	if (raw_limit(RLIMIT_NOFILE, NULL, &current) == 0 && current.rlim_cur == child->open_files.rlim_cur &&
	    current.rlim_max == child->open_files.rlim_max)
		return;
	r = raw_limit(RLIMIT_NOFILE, &child->open_files, NULL);
	if (r < 0)
		fail_launch(child->status_fd, SG_STAGE_RLIMITS, r, "rlimit", 6);
}

static _Noreturn void become_program(struct child *child)
{
	int r;

	enter(child, SG_STAGE_ENVIRONMENT);
	if (child->plan.envp == NULL)
		fail(child, -EINVAL, "environment");
	enter(child, SG_STAGE_EXEC);
	report(child, STATUS_EXECING);
	r = (int)raw_call(SYS_execve, (long)child->program, (long)child->plan.argv, (long)child->plan.envp, 0, 0);
	fail(child, r, child->program);
}

/* Takes the ruleset that the warden kept, if it is still what the plan means, or makes it. */
static void take_outer_ruleset(struct child *child, const struct launch_setup *setup)
{
	struct launch_page *page = child->page;
	const struct sg_ruleset *outer = child->plan.outer;
	struct subject subject;
	int r;

	if (setup->ruleset_fd >= 0 && paths_unchanged(outer, page->identities)) {
		child->ruleset_fd = setup->ruleset_fd;
		return;
	}
	r = make_ruleset(outer, setup->keeps_ruleset ? page->identities : NULL, &subject);
	if (r < 0)
		fail_about(child, r, &subject);
	child->ruleset_fd = r;
	if (setup->keeps_ruleset)
		page->ruleset_fd = r;
	else
		child->owns_ruleset = true;
}

struct keeper_start {
	const struct launch_setup *setup;
	struct grants grants;
	volatile int32_t program_shares;
};

static int keep(void *argument)
{
	struct keeper_start *start = argument;

	run_keeper(start->setup, &start->grants, &start->program_shares);
}

/*
 * The keeper takes over this memory, which saves copying it and, in execve, taking the copy down. Until then
 * both use it, the keeper on its own stack. It has errno for itself: from here on this process makes raw calls.
 */
static void start_keeper(struct child *child, const struct launch_setup *setup)
{
	static char stack[KEEPER_STACK] __attribute__((aligned(64)));
	static struct keeper_start start;

	enter(child, SG_STAGE_KEEPER);
	if (note_grants(&child->plan, setup->keeps_ruleset ? child->page->identities : NULL, &start.grants) < 0)
		fail(child, -ENOMEM, "grants");
	/* The plan is not for the nursery, whose memory is counted once per sandbox. Its filter may refuse this. */
	if (child->plan.head->flags & SG_PLAN_NURSERY)
		madvise((void *)setup->plan, setup->plan_room, MADV_DONTFORK);
	start.setup = setup;
	start.program_shares = 1;
	/* The kernel clears the number, at exec or exit, as long as another process has the memory. */
	raw_call(SYS_set_tid_address, (long)&start.program_shares, 0, 0, 0, 0);
	if (clone(keep, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, &start,
		  &child->page->keeper_pid) < 0)
		fail(child, -errno, "clone");
}

/* The namespaces of the plan, and its view of the file system. What an init was born in is there already. */
static void change_view(struct child *child, const struct launch_setup *setup)
{
	uint32_t flags = child->plan.head->flags;
	char about[MOUNT_SUBJECT];
	struct subject subject;
	int r;

	if (!(flags & (SG_PLAN_NEW_PID_NAMESPACE | SG_PLAN_NEW_USER_NAMESPACE | SG_PLAN_NEW_MOUNT_NAMESPACE)))
		return;
	/* What the layers name has other mounts' numbers in the new view, so a kept ruleset is known before it only. */
	if ((flags & SG_PLAN_SAME_PATHS) && child->plan.outer != NULL) {
		child->page->stage = SG_STAGE_LANDLOCK_OUTER;
		take_outer_ruleset(child, setup);
	}
	enter(child, SG_STAGE_NAMESPACES);
	r = enter_namespaces(setup, &child->plan, &subject);
	if (r < 0)
		fail_about(child, r, &subject);
	if (child->plan.mount_count == 0)
		return;
	enter(child, SG_STAGE_MOUNTS);
	r = make_mounts(&child->plan, child->page, about);
	if (r < 0)
		fail(child, r, about);
}

/* The two Landlock layers; between them the keeper is forked, which stays in the outer one. */
static void enter_layers(struct child *child, const struct launch_setup *setup)
{
	const struct plan *plan = &child->plan;
	bool layered = !(plan->head->flags & SG_PLAN_NO_LANDLOCK);
	struct subject subject;
	int r;

	if (layered) {
		enter(child, SG_STAGE_LANDLOCK_OUTER);
		if (plan->outer == NULL)
			fail(child, -EINVAL, "ruleset");
		if (child->ruleset_fd < 0)
			take_outer_ruleset(child, setup);
		r = enter_ruleset(child->ruleset_fd, &subject);
		if (r < 0)
			fail_about(child, r, &subject);
	}

	start_keeper(child, setup);
	r = apply_limits(plan);
	if (r < 0) {
		child->page->stage = SG_STAGE_RLIMITS;
		fail(child, r, "rlimit");
	}

	if (layered) {
		enter(child, SG_STAGE_LANDLOCK_INNER);
		if (plan->inner != NULL) {
			drop_ruleset(child);
			r = make_ruleset(plan->inner, NULL, &subject);
			if (r < 0)
				fail_about(child, r, &subject);
			child->ruleset_fd = r;
			child->owns_ruleset = true;
		}
		r = enter_ruleset(child->ruleset_fd, &subject);
		if (r < 0)
			fail_about(child, r, &subject);
		drop_ruleset(child);
	}
}

static void start_nursery(struct child *child, const struct launch_setup *setup)
{
	pid_t pid;

	if (!(child->plan.head->flags & SG_PLAN_NURSERY))
		return;
	enter(child, SG_STAGE_NURSERY);
	pid = clone_process(CLONE_PARENT, &child->page->nursery_pid);
	if (pid == 0)
		run_nursery(setup->nursery_fd);
	if (pid < 0)
		fail(child, pid, "clone");
}

void run_launch_child(const struct launch_setup *setup)
{
	struct child child = {.ruleset_fd = -1};
	struct subject subject = {0};
	uint32_t flags;
	pid_t parent = setup->init_fd < 0 ? setup->warden_pid : 0;
	int r;

	child.page = setup->page;
	child.status_fd = setup->status_fd;
	child.inner_pid = getpid();
	memcpy(child.stdio, setup->stdio, sizeof(child.stdio));
	reset_signals();
	r = load_plan(setup->plan, setup->plan_size, setup->memfd, &child.plan);
	if (r < 0)
		fail_launch(child.status_fd, SG_STAGE_RECEIVE, r, "plan", 4);
	flags = child.plan.head->flags;

	enter(&child, SG_STAGE_SESSION);
	if (!setup->parked && setsid() < 0)
		fail(&child, -errno, "setsid");
	die_with_parent(&child, parent);
	take_terminal(&child);

	/* While the capabilities to look everywhere are there, and the host's paths are what they were for the plan. */
	if (child.plan.denied_count > 0) {
		r = survey_denied(&child.plan, &subject);
		if (r < 0) {
			child.page->stage = SG_STAGE_LANDLOCK_OUTER;
			fail_about(&child, r, &subject);
		}
	}
	change_view(&child, setup);

	enter(&child, SG_STAGE_IDS);
	r = apply_ids(&child.plan, &subject);
	if (r < 0)
		fail_about(&child, r, &subject);
	die_with_parent(&child, parent);

	umask(flags & SG_PLAN_UMASK ? child.plan.head->umask & 0777 : 022);
	enter_directory(&child);
	choose_program(&child);

	/*
	 * The limits are for the program: they are set as soon as the keeper is made, which is none, and
	 * that of open files when the descriptor table is no longer the warden's.
	 */
	enter(&child, SG_STAGE_RLIMITS);

	enter(&child, SG_STAGE_CAPABILITIES);
	r = drop_capabilities(flags & SG_PLAN_NO_BOUNDING, &subject);
	if (r < 0)
		fail_about(&child, r, &subject);

	enter(&child, SG_STAGE_NO_NEW_PRIVS);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(&child, -errno, "no_new_privs");

	enter_layers(&child, setup);

	enter(&child, SG_STAGE_FILTER);
	r = install_filter(&child.plan, &child.page->listener_fd);
	if (r < 0)
		fail(&child, r, "filter");

	child.open_files = setup->open_files;
	open_files_limit(&child.plan, &child.open_files);
	wait_for_engine(&child, setup->go_fd);
	start_nursery(&child, setup);
	arrange_descriptors(&child, true);
	check_open_files(&child);
	become_program(&child);
}

void run_exec_child(const struct sg_plan *plan, size_t size, const int fds[6])
{
	static struct launch_page page = {.listener_fd = -1};
	struct child child = {.ruleset_fd = -1};
	int r;

	child.page = &page;
	child.status_fd = fds[3];
	child.inner_pid = getpid();
	memcpy(child.stdio, fds, sizeof(child.stdio));
	r = load_plan(plan, size, fds[5], &child.plan);
	if (r < 0)
		fail_launch(child.status_fd, SG_STAGE_RECEIVE, r, "plan", 4);

	enter(&child, SG_STAGE_SESSION);
	if (setsid() < 0)
		fail(&child, -errno, "setsid");
	wait_for_engine(&child, fds[4]);
	take_terminal(&child);
	enter_directory(&child);
	choose_program(&child);
	arrange_descriptors(&child, false);
	become_program(&child);
}
