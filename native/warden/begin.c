// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plan.h"
#include "warden.h"

int watch_fd(struct warden *warden, int fd, uint32_t events, enum event_kind kind, const struct launch *launch)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind};

	if (launch != NULL)
		event.data.u64 |= (uint64_t)launch->generation << 8 | (uint64_t)place_of(warden->table, launch)
									      << 32;
	return epoll_ctl(warden->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void close_watched(struct warden *warden, int *fd)
{
	if (*fd >= 0)
		epoll_ctl(warden->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
	close_fd(fd);
}

static void refuse(struct warden *warden, uint64_t id, int error, const char *argument)
{
	struct failure failure = {.stage = SG_STAGE_RECEIVE,
				  .error = error,
				  .length = (uint32_t)strlen(argument),
				  .argument = (char *)argument};

	post_failed(warden, id, &failure);
}

/* Checks what LAUNCH and EXEC have in common and makes the launch, which takes the descriptors. */
static struct launch *accept_plan(struct warden *warden, const struct sg_plan *plan, size_t size,
				  struct packet *packet)
{
	uint64_t received_ns = monotonic_ns();
	bool stored = plan->flags & SG_PLAN_MEMFD;
	struct launch *launch;

	if (find_launch(warden->table, plan->head.launch_id) != NULL) {
		refuse(warden, plan->head.launch_id, -EEXIST, "launch_id");
		return NULL;
	}
	if (packet->cut || packet->fd_count != (stored ? 4u : 3u)) {
		refuse(warden, plan->head.launch_id, packet->cut ? -EMSGSIZE : -EBADF, "message");
		return NULL;
	}
	if (!is_plan(plan, size)) {
		refuse(warden, plan->head.launch_id, -EINVAL, "plan");
		return NULL;
	}
	launch = add_launch(warden->table, plan->head.launch_id);
	if (launch == NULL) {
		refuse(warden, plan->head.launch_id, -EAGAIN, "launches");
		return NULL;
	}
	for (unsigned int i = 0; i < 3; i++)
		launch->stdio[i] = take_fd(packet, i);
	launch->memfd = take_fd(packet, 3);
	launch->stage_ns[SG_STAGE_RECEIVE] = received_ns;
	return launch;
}

static int make_status(struct warden *warden, struct launch *launch)
{
	int pair[2];
	int r = make_socket_pair(pair, true);

	if (r < 0)
		return r;
	launch->status_fd = pair[0];
	launch->status_child_fd = pair[1];
	r = watch_fd(warden, launch->status_fd, EPOLLIN, EVENT_STATUS, launch);
	if (r < 0)
		return r;
	launch->go_fd = eventfd(0, EFD_CLOEXEC);
	return launch->go_fd < 0 ? -errno : 0;
}

/* The sockets of the helpers that this plan needs. */
static int make_helper_sockets(struct warden *warden, struct launch *launch, const struct sg_plan *plan)
{
	int pair[2];
	int r;

	r = make_socket_pair(pair, false);
	if (r < 0)
		return r;
	launch->keeper_fd = pair[0];
	launch->keeper_child_fd = pair[1];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	launch->kill_child_fd = pair[0];
	launch->kill_fd = pair[1];

	if (plan->flags & SG_PLAN_NURSERY) {
		r = make_socket_pair(pair, false);
		if (r < 0)
			return r;
		launch->nursery_fd = pair[0];
		launch->nursery_child_fd = pair[1];
	}
	if (launch->has_init) {
		r = make_socket_pair(pair, false);
		if (r < 0)
			return r;
		launch->init_fd = pair[0];
		launch->init_child_fd = pair[1];
		return watch_fd(warden, launch->init_fd, EPOLLIN, EVENT_INIT, launch);
	}
	return 0;
}

static int take_page(struct warden *warden, struct launch *launch)
{
	if (warden->free_page_count == 0)
		return -EAGAIN;
	launch->page = warden->free_pages[--warden->free_page_count];
	*launch->page = (struct launch_page){.stage = SG_STAGE_CLONE, .listener_fd = -1, .ruleset_fd = -1};
	warden->starting++;
	return 0;
}

static int start_child(struct warden *warden, struct launch *launch, const struct sg_plan *plan, size_t size,
		       bool confines)
{
	struct launch_setup setup = {.plan = plan,
				     .plan_size = size,
				     .plan_room = MESSAGE_LIMIT,
				     .pages = warden->pages,
				     .pages_size = PAGE_COUNT * PAGE_SIZE,
				     .memfd = launch->memfd,
				     .page = launch->page,
				     .stdio = {launch->stdio[0], launch->stdio[1], launch->stdio[2]},
				     .status_fd = launch->status_child_fd,
				     .go_fd = launch->go_fd,
				     .keeper_fd = launch->keeper_child_fd,
				     .kill_fd = launch->kill_child_fd,
				     .nursery_fd = launch->nursery_child_fd,
				     .init_fd = launch->init_child_fd,
				     .ruleset_fd = -1,
				     .confines_signals = confines,
				     .namespaced = launch->namespaced,
				     .warden_pid = warden->pid,
				     .uid = geteuid(),
				     .gid = getegid(),
				     .open_files = warden->open_files};
	const bool has_init = launch->has_init; /* the child has no table */
	unsigned long flags = CLONE_FILES;
	struct parked_child parked;
	pid_t pid;

	/* A user namespace without that of pids is made by the child itself. */
	if (plan->flags & SG_PLAN_NEW_PID_NAMESPACE)
		flags |= CLONE_NEWPID | (plan->flags & SG_PLAN_NEW_USER_NAMESPACE ? CLONE_NEWUSER : 0);
	launch->stage_ns[SG_STAGE_CLONE] = monotonic_ns();
	memcpy(launch->page->stage_ns, launch->stage_ns, sizeof(launch->stage_ns));
	if (!has_init && (!(plan->flags & SG_PLAN_NEW_MOUNT_NAMESPACE) || (plan->flags & SG_PLAN_SAME_PATHS))) {
		launch->layer = use_layer(&warden->layers, plan, size, launch->page);
		setup.keeps_ruleset = launch->layer != NULL;
		setup.ruleset_fd = launch->layer != NULL ? launch->layer->fd : -1;
	}
	if (!has_init && unpark_child(&warden->parking, &setup, &parked)) {
		pid = parked.pid;
		launch->parked_fds[0] = parked.fd;
		launch->parked_fds[1] = parked.child_fd;
	} else {
		pid = clone_process(flags, NULL);
	}
	if (pid == 0) {
		if (has_init)
			run_init(&setup);
		run_launch_child(&setup);
	}
	if (pid < 0)
		return pid;
	set_pid(warden->table, launch, launch->has_init ? ROLE_INIT : ROLE_MAIN, pid);
	if (!launch->has_init)
		launch->pid = pid;
	launch->running = true;
	launch->sharing = true;
	warden->sharing++;
	return 0;
}

/* Reports what went wrong before there was a process. */
static void abandon(struct warden *warden, struct launch *launch, uint32_t stage, int error,
		    const char *argument)
{
	struct failure failure = {.stage = stage,
				  .error = error,
				  .length = (uint32_t)strlen(argument),
				  .argument = (char *)argument};

	release_shared(warden, launch);
	close_watched(warden, &launch->status_fd);
	close_fd(&launch->keeper_fd);
	close_fd(&launch->kill_fd);
	close_fd(&launch->nursery_fd);
	close_watched(warden, &launch->init_fd);
	close_fd(&launch->init_child_fd);
	post_failed(warden, launch->id, &failure);
	remove_launch(warden->table, launch);
}

void begin_launch(struct warden *warden, const struct sg_plan *plan, size_t size, struct packet *packet)
{
	struct launch *launch = accept_plan(warden, plan, size, packet);
	bool confines;
	int r;

	if (launch == NULL)
		return;
	confines = plan_confines_signals(plan, size, launch->memfd);
	launch->namespaced = plan->flags & SG_PLAN_NEW_PID_NAMESPACE;
	launch->has_init = launch->namespaced || !confines || (plan->flags & SG_PLAN_INIT);
	r = make_status(warden, launch);
	if (r == 0)
		r = make_helper_sockets(warden, launch, plan);
	if (r == 0)
		r = take_page(warden, launch);
	if (r < 0) {
		abandon(warden, launch, SG_STAGE_RECEIVE, r, "descriptors");
		return;
	}
	r = start_child(warden, launch, plan, size, confines);
	if (r < 0)
		abandon(warden, launch, launch->has_init ? SG_STAGE_NAMESPACES : SG_STAGE_CLONE, r, "clone");
}

/* Whether a sandbox can take an EXEC: 0, or why not. */
static int check_sandbox(const struct launch *sandbox)
{
	if (sandbox == NULL || sandbox->sandbox != sandbox || !sandbox->execing || !sandbox->running ||
	    sandbox->dying)
		return -ESRCH;
	return sandbox->nursery_fd < 0 ? -EOPNOTSUPP : 0;
}

void begin_exec(struct warden *warden, const struct sg_plan *plan, size_t size, struct packet *packet)
{
	struct launch *launch = accept_plan(warden, plan, size, packet);
	struct launch *sandbox;
	int fds[6];
	int r;

	if (launch == NULL)
		return;
	sandbox = find_launch(warden->table, plan->sandbox_id);
	r = check_sandbox(sandbox);
	if (r < 0) {
		abandon(warden, launch, SG_STAGE_RECEIVE, r, r == -ESRCH ? "sandbox_id" : "nursery");
		return;
	}
	r = make_status(warden, launch);
	if (r < 0) {
		abandon(warden, launch, SG_STAGE_RECEIVE, r, "descriptors");
		return;
	}
	launch->stage_ns[SG_STAGE_CLONE] = monotonic_ns();
	memcpy(fds, launch->stdio, sizeof(launch->stdio));
	fds[3] = launch->status_child_fd;
	fds[4] = launch->go_fd;
	fds[5] = launch->memfd;
	r = send_packet(sandbox->nursery_fd, plan, size, fds, launch->memfd >= 0 ? 6 : 5, MSG_DONTWAIT);
	if (r < 0) {
		abandon(warden, launch, SG_STAGE_CLONE, r, "nursery");
		return;
	}
	for (int i = 0; i < 3; i++)
		close_fd(&launch->stdio[i]);
	close_fd(&launch->memfd);
	close_fd(&launch->status_child_fd);
	launch->sandbox = sandbox;
	launch->has_init = sandbox->has_init;
	launch->last_stage = SG_STAGE_CLONE;
	launch->running = true;
	sandbox->execs++;
	warden->starting++;
}
