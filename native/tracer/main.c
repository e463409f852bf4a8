// SPDX-License-Identifier: Apache-2.0
/*
 * The tracer. It starts the warden, so that it is an ancestor of every sandboxed process (Yama lets an
 * ordinary user trace nothing else), and ends with it. It waits for nothing but its two sources of events.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../warden/wire.h"
#include "watches.h"

#define CONTROL_FD 3 /* the warden's */
#define ENGINE_FD 4

/* What tracing and killing another user's process needs, as root. Whoever has none of these keeps none. */
static int keep_few_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	const uint32_t kept = 1u << CAP_SYS_PTRACE | 1u << CAP_KILL;

	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	sets[0].permitted &= kept;
	sets[0].effective = sets[0].permitted;
	sets[0].inheritable = 0;
	sets[1] = (struct __user_cap_data_struct){0};
	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

static _Noreturn void run_warden(const char *path, const sigset_t *signals, pid_t tracer)
{
	sigprocmask(SIG_SETMASK, signals, NULL);
	/* Without the tracer nothing is watched: the warden then ends, and with it every sandbox. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() == tracer)
		execl(path, path, (char *)NULL);
	fprintf(stderr, "sandgate-tracer: %s: %s\n", path, strerror(errno));
	_exit(127);
}

static void read_engine(struct watches *watches)
{
	static struct {
		struct sg_watch head;
		char arguments[SG_WATCH_LIMIT - sizeof(struct sg_watch)];
	} request;
	struct packet packet;
	int r = receive_packet(ENGINE_FD, &request, sizeof(request), MSG_DONTWAIT, &packet);

	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r <= 0) {
		watches->engine_fd = -1;
		return;
	}
	close_packet(&packet);
	if (packet.size >= sizeof(request.head) && request.head.length == packet.size - sizeof(request.head))
		take_request(watches, &request.head, request.arguments);
	else
		fprintf(stderr, "sandgate-tracer: a request of %zu bytes is malformed\n", packet.size);
}

/* Takes every change of the watched threads. Returns false when the warden ended, with how it did. */
static bool read_children(struct watches *watches, pid_t warden, int *ret_status)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (pid == warden && !WIFSTOPPED(status)) {
			*ret_status = status;
			return false;
		}
		take_status(watches, pid, status);
	}
	return pid == 0;
}

static void read_signals(int signal_fd, pid_t warden)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			kill(warden, SIGTERM);
}

static int run(pid_t warden, int signal_fd)
{
	struct watches watches = {.engine_fd = ENGINE_FD};
	int status = 0;

	for (;;) {
		struct pollfd wait[2] = {{.fd = signal_fd, .events = POLLIN},
					 {.fd = watches.engine_fd, .events = POLLIN}};

		if (poll(wait, 2, -1) < 0)
			continue;
		if (wait[0].revents != 0) {
			read_signals(signal_fd, warden);
			if (!read_children(&watches, warden, &status))
				break;
		}
		if (wait[1].revents != 0)
			read_engine(&watches);
	}
	if (WIFSIGNALED(status))
		fprintf(stderr, "sandgate-tracer: the warden was ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	sigset_t handled, before;
	int type = 0, signal_fd;
	socklen_t size = sizeof(type);
	pid_t tracer = getpid(), warden;

	if (argc != 2 || getsockopt(ENGINE_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET) {
		fprintf(stderr, "sandgate-tracer: started by the sandgate server only, with the warden's path and "
				"sockets as descriptors 3 and 4\n");
		return 2;
	}
	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	sigprocmask(SIG_SETMASK, &handled, &before);
	signal(SIGCHLD, SIG_DFL);
	signal_fd = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0 || fcntl(ENGINE_FD, F_SETFD, FD_CLOEXEC) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		fprintf(stderr, "sandgate-tracer: cannot start: %s\n", strerror(errno));
		return 1;
	}
	setsid();
	warden = fork();
	if (warden < 0) {
		fprintf(stderr, "sandgate-tracer: cannot fork: %s\n", strerror(errno));
		return 1;
	}
	if (warden == 0)
		run_warden(argv[1], &before, tracer);
	close(CONTROL_FD);
	if (keep_few_capabilities() < 0) {
		fprintf(stderr, "sandgate-tracer: cannot drop its capabilities\n");
		kill(warden, SIGTERM);
	}
	return run(warden, signal_fd);
}
