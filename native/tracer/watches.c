// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../warden/wire.h"
#include "verify.h"
#include "watches.h"

enum watch_state {
	WATCH_QUEUED, /* another thread of its process is watched */
	WATCH_ARMED,
	WATCH_KILLED, /* its end is awaited */
};

struct watch {
	struct watch *next;
	enum watch_state state;
	uint64_t op_id;
	pid_t tid;
	pid_t tgid;
	bool dropped;
	struct expected expected;
};

/* Waits for room, but never for an engine that is gone. */
static void tell(struct watches *watches, uint64_t op_id, enum sg_tracer_event event, int error)
{
	struct sg_watched message = {.op_id = op_id, .event = event, .error = error};

	while (watches->engine_fd >= 0) {
		int r = send_packet(watches->engine_fd, &message, sizeof(message), NULL, 0, MSG_DONTWAIT);
		struct pollfd room = {.fd = watches->engine_fd, .events = POLLOUT};

		if (r == 0)
			return;
		if (r != -EAGAIN && r != -ENOBUFS && r != -ENOMEM)
			watches->engine_fd = -1;
		else
			poll(&room, 1, r == -EAGAIN ? -1 : 1);
	}
}

static struct watch *find_thread(const struct watches *watches, pid_t tid)
{
	struct watch *watch = watches->first;

	while (watch != NULL && (watch->tid != tid || watch->state == WATCH_QUEUED))
		watch = watch->next;
	return watch;
}

static struct watch *find_process(const struct watches *watches, pid_t tgid, bool queued)
{
	struct watch *watch = watches->first;

	while (watch != NULL && (watch->tgid != tgid || (watch->state == WATCH_QUEUED) != queued))
		watch = watch->next;
	return watch;
}

/* Tells how it ended, and forgets it. */
static void remove_watch(struct watches *watches, struct watch *watch, enum sg_tracer_event event, int error)
{
	struct watch **link = &watches->first;

	while (*link != watch)
		link = &(*link)->next;
	*link = watch->next;
	tell(watches, watch->op_id, event, error);
	free(watch->expected.arguments);
	free(watch);
}

/*
 * The thread waits in the kernel for the verdict and sleeps on. After it, either the new program stops before
 * its first instruction, or the interrupt stops the thread when its execve returns. The program of a tracer
 * that died is killed.
 */
static bool arm(struct watches *watches, struct watch *watch)
{
	if (ptrace(PTRACE_SEIZE, watch->tid, NULL, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL) < 0) {
		remove_watch(watches, watch, SG_TRACER_REFUSED, -errno);
		return false;
	}
	watch->state = WATCH_ARMED;
	ptrace(PTRACE_INTERRUPT, watch->tid, NULL, NULL); /* fails for one that is about to end, which is told too */
	tell(watches, watch->op_id, SG_TRACER_ARMED, 0);
	return true;
}

/*
 * A thread that was dropped is still to be interrupted, which it cannot be while it is held in its next execve:
 * that one's watch takes its place.
 */
static void replace_dropped(struct watches *watches, struct watch *armed)
{
	struct watch *next = watches->first, former;

	while (next != NULL && (next->state != WATCH_QUEUED || next->tid != armed->tid))
		next = next->next;
	if (next == NULL || armed->state != WATCH_ARMED || !armed->dropped)
		return;
	former = *armed;
	armed->op_id = next->op_id;
	armed->expected = next->expected;
	armed->dropped = false;
	next->op_id = former.op_id;
	next->expected = former.expected;
	remove_watch(watches, next, SG_TRACER_GONE, 0);
	tell(watches, armed->op_id, SG_TRACER_ARMED, 0);
}

/* A process's next one, if it has none: the one before may have been its last. */
static void arm_next(struct watches *watches, pid_t tgid)
{
	struct watch *watch = find_process(watches, tgid, false);

	if (watch != NULL) {
		replace_dropped(watches, watch);
		return;
	}
	while ((watch = find_process(watches, tgid, true)) != NULL)
		if (arm(watches, watch))
			return;
}

static void finish(struct watches *watches, struct watch *watch, enum sg_tracer_event event)
{
	pid_t tgid = watch->tgid;

	remove_watch(watches, watch, event, 0);
	arm_next(watches, tgid);
}

/*
 * One thread of a process at a time: a thread that executes holds the lock that PTRACE_SEIZE takes, and waits
 * for its siblings to be reaped, by their tracer if they have one. So the tracer would wait for itself.
 */
static void begin_watch(struct watches *watches, const struct sg_watch *request, const char *arguments)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	struct watch **last = &watches->first;

	if (watch != NULL)
		watch->expected.arguments = malloc(request->length + 1u);
	if (watch == NULL || watch->expected.arguments == NULL) {
		free(watch);
		tell(watches, request->op_id, SG_TRACER_REFUSED, -ENOMEM);
		return;
	}
	watch->op_id = request->op_id;
	watch->tid = (pid_t)request->tid;
	watch->tgid = (pid_t)request->tgid;
	watch->expected.device = request->device;
	watch->expected.inode = request->inode;
	watch->expected.prefix = (request->flags & SG_WATCH_PREFIX) != 0;
	watch->expected.length = request->length;
	memcpy(watch->expected.arguments, arguments, request->length);
	while (*last != NULL)
		last = &(*last)->next;
	*last = watch;
	arm_next(watches, watch->tgid);
}

void take_request(struct watches *watches, const struct sg_watch *request, const char *arguments)
{
	switch (request->op) {
	case SG_TRACER_WATCH:
		begin_watch(watches, request, arguments);
		return;
	case SG_TRACER_DROP:
		for (struct watch *watch = watches->first; watch != NULL; watch = watch->next) {
			if (watch->op_id != request->op_id)
				continue;
			watch->dropped = true;
			arm_next(watches, watch->tgid);
			return;
		}
		return;
	default:
		tell(watches, request->op_id, SG_TRACER_REFUSED, -EINVAL);
	}
}

/*
 * The thread that executed has its leader's id from now on. The leader is gone then, without a word to the
 * tracer: ptrace(2).
 */
static void take_exec(struct watches *watches, pid_t pid)
{
	unsigned long former = (unsigned long)pid;
	struct watch *watch, *leader;

	if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &former) < 0)
		former = (unsigned long)pid;
	watch = find_thread(watches, (pid_t)former);
	leader = find_thread(watches, pid);
	if (leader != NULL && leader != watch)
		remove_watch(watches, leader, SG_TRACER_GONE, 0);
	if (watch != NULL && (watch->dropped || is_expected(pid, &watch->expected))) {
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		finish(watches, watch, SG_TRACER_RAN);
		return;
	}
	/* The latter asks for no permission, but kills only since Linux 5.19 what runs by then. */
	if (kill(pid, SIGKILL) < 0)
		ptrace(PTRACE_KILL, pid, NULL, NULL);
	if (watch != NULL) {
		watch->tid = pid;
		watch->state = WATCH_KILLED;
	}
}

void take_status(struct watches *watches, pid_t pid, int status)
{
	struct watch *watch;
	int signal_number;

	if (WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_EXEC) {
		take_exec(watches, pid);
		return;
	}
	watch = find_thread(watches, pid);
	if (WIFSTOPPED(status)) {
		/* Job control stays as it is; a signal on its way is passed on. */
		signal_number = status >> 16 == 0 ? WSTOPSIG(status) : 0;
		if (watch != NULL && watch->state == WATCH_KILLED)
			return;
		if (ptrace(PTRACE_DETACH, pid, NULL, signal_number) == 0 && watch != NULL)
			finish(watches, watch, SG_TRACER_RETURNED);
		return;
	}
	if (watch != NULL)
		finish(watches, watch, watch->state == WATCH_KILLED ? SG_TRACER_KILLED : SG_TRACER_GONE);
}
