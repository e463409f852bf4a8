// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plan.h"
#include "sweep.h"
#include "warden.h"

#define EVENTS_PER_TURN 64
#define MESSAGES_PER_TURN 64
#define STALLED_MS 5
#define STILL_MS 3
#define KEEPERS_PATIENCE_MS 200

static void handle_message(struct warden *warden, struct packet *packet)
{
	const struct sg_message *head = warden->message;
	const struct sg_signal *request = warden->message;
	struct launch *launch;

	switch (head->type) {
	case SG_MSG_LAUNCH:
		begin_launch(warden, warden->message, packet->size, packet);
		return;
	case SG_MSG_EXEC:
		begin_exec(warden, warden->message, packet->size, packet);
		return;
	case SG_MSG_SIGNAL:
	case SG_MSG_KILL:
		/* What is gone meanwhile has told so: these have no answer of their own. */
		launch = find_launch(warden->table, head->launch_id);
		if (packet->size < sizeof(*request) || launch == NULL)
			return;
		if (head->type == SG_MSG_SIGNAL)
			signal_process(launch, (int)request->signal, request->scope == SG_SIGNAL_GROUP);
		else if (launch->sandbox == launch)
			kill_sandbox(warden, launch);
		else
			signal_process(launch, SIGKILL, false);
		return;
	default:
		fprintf(stderr, "sandgate-warden: message of unknown type %u\n", head->type);
	}
}

static void read_control(struct warden *warden)
{
	for (int i = 0; i < MESSAGES_PER_TURN && !warden->ending; i++) {
		struct packet packet;
		int r = receive_packet(CONTROL_FD, warden->message, MESSAGE_LIMIT, MSG_DONTWAIT, &packet);

		if (r == -EAGAIN)
			return;
		if (r == -EINTR)
			continue;
		if (r <= 0) {
			warden->ending = true;
			return;
		}
		if (packet.size >= sizeof(struct sg_message))
			handle_message(warden, &packet);
		close_packet(&packet);
	}
}

static void read_signals(struct warden *warden, bool *ret_child_ended)
{
	struct signalfd_siginfo info;

	while (read(warden->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			*ret_child_ended = true;
		else
			warden->ending = true;
	}
}

static void handle_event(struct warden *warden, const struct epoll_event *event, bool *ret_child_ended)
{
	enum event_kind kind = (enum event_kind)(event->data.u64 & 0xff);
	struct launch *launch = launch_at(warden->table, (uint32_t)(event->data.u64 >> 32),
					  (uint32_t)(event->data.u64 >> 8) & 0xffffff);

	switch (kind) {
	case EVENT_CONTROL:
		if (event->events & EPOLLOUT && flush_outbox(warden->outbox) < 0)
			warden->ending = true;
		if (event->events & ~(uint32_t)EPOLLOUT)
			read_control(warden);
		return;
	case EVENT_SIGNAL:
		read_signals(warden, ret_child_ended);
		return;
	case EVENT_STATUS:
		if (launch != NULL)
			read_status(warden, launch);
		return;
	case EVENT_INIT:
		if (launch != NULL)
			read_init(warden, launch);
		return;
	}
}

/* Asks for room on the socket exactly while something waits for it. */
static void watch_for_room(struct warden *warden, bool *waiting)
{
	bool wanted = !outbox_empty(warden->outbox) && !outbox_stalled(warden->outbox);
	struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.u64 = EVENT_CONTROL};

	if (wanted != *waiting && epoll_ctl(warden->epoll_fd, EPOLL_CTL_MOD, CONTROL_FD, &event) == 0)
		*waiting = wanted;
}

/* Makes a child ahead of its launch in a moment without one: right after a sandbox is gone, or when all is still. */
static int parking_delay(const struct warden *warden)
{
	if (warden->parking.count == PARKED_LIMIT || warden->parking.refused || warden->starting > 0)
		return -1;
	return warden->quiet ? 0 : STILL_MS;
}

static void park_another(struct warden *warden)
{
	if (park_child(&warden->parking, warden->pid) < 0)
		warden->parking.refused = true;
	warden->quiet = warden->quiet && warden->parking.count < PARKED_LIMIT;
}

static void run(struct warden *warden)
{
	struct epoll_event events[EVENTS_PER_TURN];
	bool waiting_for_room = false;

	while (!warden->ending) {
		int delay = parking_delay(warden);
		int timeout = warden->more_to_reap ? 0 : outbox_stalled(warden->outbox) ? STALLED_MS : delay;
		bool child_ended = warden->more_to_reap;
		int count = epoll_wait(warden->epoll_fd, events, EVENTS_PER_TURN, timeout);

		if (count < 0 && errno != EINTR)
			return;
		if (count == 0 && delay >= 0)
			park_another(warden);
		for (int i = 0; i < count; i++)
			handle_event(warden, &events[i], &child_ended);
		if (child_ended)
			reap_children(warden);
		if (outbox_stalled(warden->outbox) && flush_outbox(warden->outbox) < 0)
			return;
		watch_for_room(warden, &waiting_for_room);
	}
}

/* Keepers, and inits without a namespace, end what is theirs better than a sweep does. */
static bool is_killer(pid_t pid, void *context)
{
	struct warden *warden = context;
	enum role role;
	const struct launch *launch = find_pid(warden->table, pid, &role);

	return launch != NULL && (role == ROLE_KEEPER || (role == ROLE_INIT && !launch->namespaced));
}

static void end_everything(struct warden *warden)
{
	for (struct launch *launch = next_launch(warden->table, NULL); launch;
	     launch = next_launch(warden->table, launch)) {
		if (launch->sandbox != launch)
			continue;
		kill_sandbox(warden, launch);
		close_fd(&launch->init_fd);
	}
	end_descendants(is_killer, warden, KEEPERS_PATIENCE_MS);
}

/* Makes 0, 1 and 2 something: the rest relies on new descriptors not being these. */
static int occupy_standard_descriptors(void)
{
	int fd = open("/dev/null", O_RDWR);

	if (fd < 0)
		return -errno;
	while (fd >= 0 && fd < 3)
		fd = dup(fd);
	if (fd < 0)
		return -errno;
	if (dup2(fd, 0) < 0 || dup2(fd, 1) < 0)
		return -errno;
	close(fd);
	return 0;
}

/*
 * The warden itself never executes anything: without a bounding set it keeps its own rights, and no
 * child of it has one to drop.
 */
static void drop_bounding_set(void)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int take_over_signals(void)
{
	sigset_t handled;
	int fd;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	sigprocmask(SIG_SETMASK, &handled, NULL);
	fd = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int make_pages(struct warden *warden)
{
	char *pages =
		mmap(NULL, PAGE_COUNT * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	_Static_assert(sizeof(struct launch_page) <= PAGE_SIZE, "one page per launch");
	if (pages == MAP_FAILED)
		return -errno;
	warden->pages = pages;
	while (warden->free_page_count < PAGE_COUNT) {
		warden->free_pages[warden->free_page_count] =
			(void *)(pages + warden->free_page_count * PAGE_SIZE);
		warden->free_page_count++;
	}
	return 0;
}

static int raise_descriptor_limit(struct warden *warden)
{
	struct rlimit raised;

	if (getrlimit(RLIMIT_NOFILE, &warden->open_files) < 0)
		return -errno;
	raised = warden->open_files;
	raised.rlim_cur = raised.rlim_max < DESCRIPTOR_LIMIT ? raised.rlim_max : DESCRIPTOR_LIMIT;
	if (raised.rlim_cur > warden->open_files.rlim_cur && setrlimit(RLIMIT_NOFILE, &raised) < 0)
		return -errno;
	return 0;
}

static int start(struct warden *warden)
{
	int r;

	r = occupy_standard_descriptors();
	if (r < 0)
		return r;
	if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	setsid();
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	drop_bounding_set();
	r = raise_descriptor_limit(warden);
	if (r < 0)
		return r;
	warden->pid = getpid();
	warden->signal_fd = take_over_signals();
	if (warden->signal_fd < 0)
		return warden->signal_fd;
	warden->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (warden->epoll_fd < 0)
		return -errno;
	warden->table = make_table();
	warden->outbox = make_outbox(CONTROL_FD);
	warden->message = mmap(NULL, MESSAGE_LIMIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (warden->table == NULL || warden->outbox == NULL || warden->message == MAP_FAILED)
		return -ENOMEM;
	r = make_pages(warden);
	if (r == 0)
		r = watch_fd(warden, CONTROL_FD, EPOLLIN, EVENT_CONTROL, NULL);
	if (r == 0)
		r = watch_fd(warden, warden->signal_fd, EPOLLIN, EVENT_SIGNAL, NULL);
	return r;
}

int main(void)
{
	static struct warden warden;
	int type = 0;
	socklen_t size = sizeof(type);
	int r;

	if (getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET) {
		fprintf(stderr,
			"sandgate-warden: started by the sandgate server only, with a socket as descriptor "
			"%d\n",
			CONTROL_FD);
		return 2;
	}
	r = start(&warden);
	if (r < 0) {
		fprintf(stderr, "sandgate-warden: cannot start: %s\n", strerror(-r));
		return 1;
	}
	post_hello(&warden);
	run(&warden);
	end_everything(&warden);
	return 0;
}
