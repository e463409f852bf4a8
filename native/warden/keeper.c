// SPDX-License-Identifier: Apache-2.0
/*
 * One per sandbox, in its outer Landlock layer: whatever it does, the kernel allows it no more than the
 * policy's ceiling, and the program, one layer further in, can neither signal nor trace it. Because that
 * layer confines signals, its kill(-1) reaches exactly the sandbox's processes, whatever their session,
 * group or parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "child.h"
#include "keeper.h"

#define ENGINE_FD 3
#define KILL_FD 4
#define STATUS_FD 5
#define PRESS_MS 2
#define TELL_MS 1

static volatile sig_atomic_t must_end;

static void on_terminate(int signal_number)
{
	(void)signal_number;
	must_end = 1;
}

static void on_watch(int signal_number)
{
	(void)signal_number;
}

/* Signals everything of the sandbox. Refuses unless it is certain that nothing else is reached. */
static int signal_sandbox(const struct keeper *keeper, int number)
{
	if (!keeper->namespaced) {
		if (!keeper->confines_signals)
			return -EOPNOTSUPP;
		if (kill(keeper->warden_pid, 0) == 0)
			return -ENOTRECOVERABLE;
		if (errno != EPERM && errno != ESRCH)
			return -errno;
	}
	if (kill(-1, number) < 0 && errno != ESRCH)
		return -errno;
	return 0;
}

static _Noreturn void end(const struct keeper *keeper)
{
	signal_sandbox(keeper, SIGKILL);
	_exit(0);
}

void reply(struct keeper *keeper, const void *bytes, size_t size, int fd)
{
	for (;;) {
		int r = send_packet(ENGINE_FD, bytes, size, &fd, fd >= 0 ? 1 : 0, MSG_DONTWAIT);
		struct pollfd wait[2] = {{.fd = ENGINE_FD, .events = POLLOUT},
					 {.fd = KILL_FD, .events = POLLIN}};

		if (r == 0)
			return;
		if (must_end || (r != -EAGAIN && r != -ENOBUFS && r != -ETOOMANYREFS && r != -ENOMEM))
			end(keeper);
		if (poll(wait, 2, r == -EAGAIN ? 100 : PRESS_MS) > 0 && wait[1].revents != 0)
			end(keeper);
	}
}

void reply_result(struct keeper *keeper, uint32_t op, uint64_t op_id, int error, int fd)
{
	struct sg_keeper_reply message = {.op = op, .error = error, .op_id = op_id};

	reply(keeper, &message, sizeof(message), fd);
}

int submit_job(struct keeper *keeper, const struct job *job)
{
	if (keeper->jobs == NULL) {
		keeper->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (keeper->done_fd < 0)
			return -errno;
		keeper->jobs = make_job_pool(keeper->done_fd);
		if (keeper->jobs == NULL) {
			close_fd(&keeper->done_fd);
			return -ENOMEM;
		}
	}
	return start_job(keeper->jobs, job);
}

int copy_path_bytes(const struct request *request, char ret_path[PATH_MAX])
{
	const uint32_t length = request->head->length;

	if (length >= PATH_MAX)
		return -ENAMETOOLONG;
	if (memchr(request->bytes, '\0', length) != NULL)
		return -EINVAL;
	memcpy(ret_path, request->bytes, length);
	ret_path[length] = '\0';
	return 0;
}

static void handle_signal(struct keeper *keeper, struct request *request)
{
	const uint32_t number = request->head->signal;
	int r = number > (uint32_t)SIGRTMAX ? -EINVAL : signal_sandbox(keeper, (int)number);

	reply_result(keeper, request->head->op, request->head->op_id, r, -1);
}

static void (*const operations[])(struct keeper *keeper, struct request *request) = {
	[SG_KEEPER_PROCESS] = handle_process,
	[SG_KEEPER_LISTEN] = handle_listen,
	[SG_KEEPER_RESOLVE] = handle_resolve,
	[SG_KEEPER_OPEN] = handle_open,
	[SG_KEEPER_RELEASE] = handle_release,
	[SG_KEEPER_CONNECT] = handle_connect,
	[SG_KEEPER_SIGNAL] = handle_signal,
	[SG_KEEPER_CANCEL] = handle_cancel,
	[SG_KEEPER_ACT] = handle_act,
	[SG_KEEPER_LISTENER] = handle_listener,
	[SG_KEEPER_SEND] = handle_send,
	[SG_KEEPER_PROGRAM] = handle_program,
	[SG_KEEPER_BIND] = handle_bind,
};

static void handle(struct keeper *keeper, const struct sg_keeper_request *head, const char *bytes,
		   struct packet *packet)
{
	struct request request = {.head = head, .bytes = bytes, .packet = packet};

	if (head->op < sizeof(operations) / sizeof(*operations) && operations[head->op] != NULL)
		operations[head->op](keeper, &request);
	else
		reply_result(keeper, head->op, head->op_id, -EINVAL, -1);
}

static void receive_request(struct keeper *keeper)
{
	static struct {
		struct sg_keeper_request head;
		char bytes[sizeof(struct sg_keeper_act) + PATH_MAX + NAME_MAX + SG_ACT_VALUE_LIMIT];
	} request;
	struct packet packet;
	int r = receive_packet(ENGINE_FD, &request, sizeof(request), MSG_DONTWAIT, &packet);

	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r <= 0)
		end(keeper);
	if (packet.size < sizeof(request.head)) {
		struct sg_keeper_reply malformed = {.error = -EINVAL};

		reply(keeper, &malformed, sizeof(malformed), -1);
	} else if (packet.cut) {
		reply_result(keeper, request.head.op, request.head.op_id,
			     request.head.length > sizeof(request.bytes) ? -ENAMETOOLONG : -EMFILE, -1);
	} else if (request.head.length != packet.size - sizeof(request.head)) {
		reply_result(keeper, request.head.op, request.head.op_id, -EINVAL, -1);
	} else {
		handle(keeper, &request.head, request.bytes, &packet);
	}
	close_packet(&packet);
}

static void reply_finished(struct keeper *keeper)
{
	uint64_t count;
	struct job job;

	(void)!read(keeper->done_fd, &count, sizeof(count));
	while (take_finished(keeper->jobs, &job)) {
		if (job.kind == JOB_SEND) {
			reply_sent(keeper, &job);
			continue;
		}
		bool opened = job.kind == JOB_OPEN && job.result >= 0;

		reply_result(keeper, job.kind == JOB_OPEN ? SG_KEEPER_OPEN : SG_KEEPER_CONNECT, job.op_id,
			     job.result < 0 ? job.result : 0, opened ? job.result : -1);
		if (opened)
			close(job.result);
	}
}

/* Keeps its two sockets, and leaves session, terminal, directory and the warden's descriptors. */
static void settle(const struct launch_setup *setup, struct keeper *keeper)
{
	struct sigaction terminate = {.sa_handler = on_terminate};
	struct sigaction watch = {.sa_handler = on_watch};
	struct rlimit core = {0};

	setsid();
	if (chdir("/") < 0)
		_exit(126);
	sigaction(SIGTERM, &terminate, NULL);
	sigaction(SIGALRM, &watch, NULL);
	prctl(PR_SET_NAME, "sandgate-keeper", 0, 0, 0);
	setrlimit(RLIMIT_CORE, &core);
	if (dup3(setup->keeper_fd, ENGINE_FD, O_CLOEXEC) < 0 || dup3(setup->kill_fd, KILL_FD, O_CLOEXEC) < 0 ||
	    dup3(setup->status_fd, STATUS_FD, O_CLOEXEC) < 0 || dup3(0, 1, 0) < 0 || dup3(0, 2, 0) < 0 ||
	    syscall(NR_close_range, STATUS_FD + 1u, ~0u, 0) < 0)
		_exit(126);
	if (keeper->namespaced) {
		struct status_message known = {.kind = STATUS_KEEPER, .listener_fd = -1};

		(void)!write(STATUS_FD, &known, sizeof(known));
	}
	close(STATUS_FD);
	/* With an init as the parent, its end takes the keeper along: by the namespace, or by its sweep. */
	if (setup->init_fd < 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
		if (getppid() != setup->warden_pid)
			must_end = 1;
	}
}

/* What the launch left in this memory serves nobody any more once the program has its own. */
static void forget_launch(const struct launch_setup *setup)
{
	madvise((void *)setup->plan, setup->plan_room, MADV_DONTNEED);
	munmap(setup->pages, setup->pages_size);
}

void run_keeper(const struct launch_setup *setup, struct grants *grants, const volatile int32_t *program_shares)
{
	struct keeper keeper = {.warden_pid = setup->warden_pid,
				.namespaced = setup->namespaced,
				.confines_signals = setup->confines_signals,
				.grants = grants,
				.done_fd = -1,
				.connects = NO_CONNECTS,
				.listener_fd = -1};
	sigset_t terminate, none;
	bool alone = false;

	sigemptyset(&none);
	sigemptyset(&terminate);
	sigaddset(&terminate, SIGTERM);
	sigprocmask(SIG_SETMASK, &terminate, NULL);
	settle(setup, &keeper);
	if (note_denied(grants) < 0)
		must_end = 1;
	while (!must_end) {
		struct pollfd wait[4] = {{.fd = KILL_FD, .events = POLLIN},
					 {.fd = ENGINE_FD, .events = POLLIN},
					 {.fd = keeper.done_fd, .events = POLLIN},
					 {.fd = keeper.connects.poll_fd, .events = POLLIN}};
		bool pressing = keeper.jobs != NULL && press_cancelled(keeper.jobs);
		bool telling = keeper.answers.head.length > 0;
		int wait_ms = telling ? TELL_MS : pressing ? PRESS_MS : next_connect_ms(&keeper.connects);
		struct timespec bound = {.tv_sec = wait_ms / 1000, .tv_nsec = (wait_ms % 1000) * 1000000L};
		int ready = ppoll(wait, 4, wait_ms < 0 ? NULL : &bound, &none);

		if (ready < 0)
			continue;
		if (ready == 0 && telling)
			tell_answers(&keeper);
		if (wait[0].revents != 0)
			break;
		if (wait[2].revents != 0)
			reply_finished(&keeper);
		if (wait[3].revents != 0 || wait_ms >= 0)
			reply_connected(&keeper);
		if (wait[1].revents != 0) {
			if (!alone && *program_shares == 0) {
				alone = true;
				forget_launch(setup);
			}
			receive_request(&keeper);
		}
	}
	end(&keeper);
}
