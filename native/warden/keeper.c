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
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "../kernel.h"
#include "child.h"
#include "jobs.h"
#include "pins.h"
#include "resolve.h"
#include "wire.h"

#define ENGINE_FD 3
#define KILL_FD 4
#define STATUS_FD 5
#define PRESS_MS 2
#define CONNECT_WATCH_US 50000
#define MEMORY_DEVICES 1 /* major number of /dev/null and its like, whose open never waits */

struct keeper {
	pid_t warden_pid;
	bool namespaced;       /* kill(-1) is confined by the PID namespace */
	bool confines_signals; /* the outer layer has the scope */
	struct pins pins;
	struct job_pool *jobs; /* NULL until the first */
	int done_fd;
};

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

/* Sends a reply, waiting for room, but not beyond what ends the keeper. */
static void reply(struct keeper *keeper, const void *bytes, size_t size, int fd)
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

static void reply_result(struct keeper *keeper, uint32_t op, uint64_t op_id, int error, int fd)
{
	struct sg_keeper_reply message = {.op = op, .error = error, .op_id = op_id};

	reply(keeper, &message, sizeof(message), fd);
}

static void handle_resolve(struct keeper *keeper, const struct sg_keeper_request *request, const char *bytes,
			   int directory_fd)
{
	struct {
		struct sg_keeper_reply head;
		char path[PATH_MAX];
	} message;
	char path[PATH_MAX];
	struct place place;
	int r;

	memset(&message.head, 0, sizeof(message.head));
	message.head.op = request->op;
	message.head.op_id = request->op_id;
	if (request->length >= PATH_MAX)
		r = -ENAMETOOLONG;
	else if (memchr(bytes, '\0', request->length) != NULL)
		r = -EINVAL;
	else {
		memcpy(path, bytes, request->length);
		path[request->length] = '\0';
		r = resolve_path(directory_fd, path, (int)request->flags, &place);
	}
	if (r == 0) {
		r = add_pin(&keeper->pins, request->op_id, &place);
		close_fd(&place.fd);
	}
	message.head.error = r;
	if (r == 0) {
		message.head.flags = place.exists ? SG_KEEPER_EXISTS : 0;
		message.head.length = (uint32_t)place.length;
		memcpy(message.path, place.path, place.length);
	}
	reply(keeper, &message, sizeof(message.head) + message.head.length, -1);
}

static int submit(struct keeper *keeper, const struct job *job)
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

/* Hands an open to a thread. Returns -EINPROGRESS, or why that was not possible; *fd is taken on success. */
static int open_in_thread(struct keeper *keeper, uint64_t op_id, int *fd, int flags)
{
	struct job job = {.kind = JOB_OPEN, .op_id = op_id, .fd = *fd, .flags = flags};
	int r = submit(keeper, &job);

	if (r < 0)
		return r;
	*fd = -1;
	return -EINPROGRESS;
}

/*
 * Opens a file that exists, by its pin. A regular file may have to wait for a lease to be broken, a FIFO for
 * its other end, a device for anything: what would wait does so in a thread.
 * Returns a descriptor, -EINPROGRESS, or another negative errno.
 */
static int open_existing(struct keeper *keeper, uint64_t op_id, int *fd, int flags)
{
	struct stat status;
	int opened;

	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	if (fstat(*fd, &status) < 0)
		return -errno;
	if ((flags & O_CREAT) && S_ISDIR(status.st_mode))
		return -EISDIR;
	if (S_ISLNK(status.st_mode) && !(flags & O_PATH))
		return -ELOOP;
	flags &= ~(O_CREAT | O_NOFOLLOW | O_EXCL);
	if (flags & (O_NONBLOCK | O_PATH))
		return reopen(*fd, flags);
	if (S_ISCHR(status.st_mode) && major(status.st_rdev) == MEMORY_DEVICES)
		return reopen(*fd, flags);
	if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
		return open_in_thread(keeper, op_id, fd, flags);

	opened = reopen(*fd, flags | O_NONBLOCK);
	if (opened == -EAGAIN)
		return open_in_thread(keeper, op_id, fd, flags);
	if (opened >= 0) {
		int now = fcntl(opened, F_GETFL);

		if (now < 0 || fcntl(opened, F_SETFL, now & ~O_NONBLOCK) < 0) {
			int error = -errno;

			close(opened);
			return error;
		}
	}
	return opened;
}

/* Makes a file without a name in a pinned directory. */
static int open_temporary(int directory_fd, int flags, mode_t mode)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", directory_fd);
	fd = open(path, (flags & ~O_NOFOLLOW) | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

/* Creates pin->name, or opens what appeared there since. */
static int open_new(struct keeper *keeper, const struct pin *pin, int flags, mode_t mode)
{
	cleanup_close int fd =
		openat(pin->fd, pin->name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
	int opened = fd;

	if (opened >= 0) {
		fd = -1;
		return opened;
	}
	if (errno != EEXIST || (flags & O_EXCL))
		return -errno;
	fd = openat(pin->fd, pin->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return open_existing(keeper, pin->op_id, &fd, flags);
}

static void handle_open(struct keeper *keeper, const struct sg_keeper_request *request)
{
	struct pin *pin = find_pin(&keeper->pins, request->op_id);
	cleanup_close int opened = -1;
	int flags = (int)request->flags;
	int r;

	if (pin == NULL) {
		reply_result(keeper, request->op, request->op_id, -EBADF, -1);
		return;
	}
	umask(request->umask & 0777);
	if (pin->exists && (flags & O_TMPFILE) == O_TMPFILE) {
		r = open_temporary(pin->fd, flags, request->mode & 07777);
	} else if (pin->exists) {
		r = open_existing(keeper, request->op_id, &pin->fd, flags);
	} else if (flags & O_CREAT) {
		r = open_new(keeper, pin, flags, request->mode & 07777);
	} else {
		r = -ENOENT;
	}
	release_pin(pin);
	if (r == -EINPROGRESS)
		return;
	opened = r;
	reply_result(keeper, request->op, request->op_id, r < 0 ? r : 0, opened);
}

/* A connect that cannot wait, unless the caller makes the socket blocking meanwhile: then a timer ends it. */
static int connect_at_once(int socket_fd, const struct sockaddr *address, socklen_t length)
{
	const struct itimerval watch = {.it_interval = {.tv_usec = CONNECT_WATCH_US},
					.it_value = {.tv_usec = CONNECT_WATCH_US}};
	const struct itimerval none = {0};
	int r;

	setitimer(ITIMER_REAL, &watch, NULL);
	r = connect(socket_fd, address, length) < 0 ? -errno : 0;
	setitimer(ITIMER_REAL, &none, NULL);
	return r;
}

/* Returns a result for the caller, or -EINPROGRESS with *ret_deferred set when the reply comes later. */
static int start_connect(struct keeper *keeper, const struct sg_keeper_request *request, const char *bytes,
			 int *socket_fd, bool *ret_deferred)
{
	struct job job = {.kind = JOB_CONNECT, .op_id = request->op_id, .fd = *socket_fd};
	socklen_t size = sizeof(int);
	int type, flags, r;

	if (request->length > sizeof(job.address))
		return -EINVAL;
	if (getsockopt(*socket_fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return -errno;
	flags = fcntl(*socket_fd, F_GETFL);
	if (flags < 0)
		return -errno;
	memcpy(&job.address, bytes, request->length);
	job.address_length = request->length;
	if ((flags & O_NONBLOCK) || type == SOCK_DGRAM || type == SOCK_RAW)
		return connect_at_once(*socket_fd, (const struct sockaddr *)&job.address, job.address_length);
	r = submit(keeper, &job);
	if (r < 0)
		return r;
	*socket_fd = -1;
	*ret_deferred = true;
	return 0;
}

static void handle_connect(struct keeper *keeper, const struct sg_keeper_request *request, const char *bytes,
			   int *socket_fd)
{
	bool deferred = false;
	int r = *socket_fd < 0 ? -EBADF : start_connect(keeper, request, bytes, socket_fd, &deferred);

	if (!deferred)
		reply_result(keeper, request->op, request->op_id, r, -1);
}

static void handle(struct keeper *keeper, const struct sg_keeper_request *request, const char *bytes,
		   struct packet *packet)
{
	cleanup_close int fd = take_fd(packet, 0);

	switch (request->op) {
	case SG_KEEPER_RESOLVE:
		handle_resolve(keeper, request, bytes, fd >= 0 ? fd : -EBADF);
		return;
	case SG_KEEPER_OPEN:
		handle_open(keeper, request);
		return;
	case SG_KEEPER_RELEASE: {
		struct pin *pin = find_pin(&keeper->pins, request->op_id);

		if (pin != NULL)
			release_pin(pin);
		return;
	}
	case SG_KEEPER_CONNECT:
		handle_connect(keeper, request, bytes, &fd);
		return;
	case SG_KEEPER_SIGNAL: {
		int r = request->signal > (uint32_t)SIGRTMAX ? -EINVAL
							     : signal_sandbox(keeper, (int)request->signal);

		reply_result(keeper, request->op, request->op_id, r, -1);
		return;
	}
	case SG_KEEPER_CANCEL:
		if (keeper->jobs != NULL)
			cancel_job(keeper->jobs, request->op_id);
		return;
	default:
		reply_result(keeper, request->op, request->op_id, -EINVAL, -1);
	}
}

static void receive_request(struct keeper *keeper)
{
	struct {
		struct sg_keeper_request head;
		char bytes[PATH_MAX];
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

void run_keeper(const struct launch_setup *setup, const volatile int32_t *program_shares)
{
	struct keeper keeper = {.warden_pid = setup->warden_pid,
				.namespaced = setup->namespaced,
				.confines_signals = setup->confines_signals,
				.done_fd = -1};
	sigset_t terminate, none;
	bool alone = false;

	sigemptyset(&none);
	sigemptyset(&terminate);
	sigaddset(&terminate, SIGTERM);
	sigprocmask(SIG_SETMASK, &terminate, NULL);
	settle(setup, &keeper);
	while (!must_end) {
		struct pollfd wait[3] = {{.fd = KILL_FD, .events = POLLIN},
					 {.fd = ENGINE_FD, .events = POLLIN},
					 {.fd = keeper.done_fd, .events = POLLIN}};
		struct timespec press = {.tv_nsec = PRESS_MS * 1000000};
		bool pressing = keeper.jobs != NULL && press_cancelled(keeper.jobs);

		if (ppoll(wait, 3, pressing ? &press : NULL, &none) < 0)
			continue;
		if (wait[0].revents != 0)
			break;
		if (wait[2].revents != 0)
			reply_finished(&keeper);
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
