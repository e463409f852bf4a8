// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel.h"
#include "sweep.h"
#include "warden.h"

#define REAPED_PER_TURN 256

static void end_process(struct warden *warden, struct launch *launch, const struct ending *ending);
static void settle(struct warden *warden, struct launch *launch);

static bool is_exec(const struct launch *launch)
{
	return launch->sandbox != launch;
}

void set_failure(struct launch *launch, uint32_t stage, int error, const void *argument, size_t length)
{
	if (launch->failure.stage != 0)
		return;
	launch->failure.stage = stage;
	launch->failure.error = error;
	launch->failure.argument = malloc(length + 1);
	if (launch->failure.argument == NULL)
		return;
	memcpy(launch->failure.argument, argument, length);
	launch->failure.length = (uint32_t)length;
}

static void close_page_files(struct launch_page *page)
{
	close_fd(&page->listener_fd);
	while (page->open_file_count > 0)
		close_fd(&page->open_files[--page->open_file_count]);
}

void release_shared(struct warden *warden, struct launch *launch)
{
	for (int i = 0; i < 3; i++)
		close_fd(&launch->stdio[i]);
	close_fd(&launch->memfd);
	close_fd(&launch->status_child_fd);
	close_fd(&launch->go_fd);
	close_fd(&launch->keeper_child_fd);
	close_fd(&launch->kill_child_fd);
	close_fd(&launch->nursery_child_fd);
	close_fd(&launch->parked_fds[0]);
	close_fd(&launch->parked_fds[1]);
	if (launch->page != NULL) {
		/* These are the launch's own from READY on. */
		if (!launch->known)
			close_page_files(launch->page);
		close_fd(&launch->page->ruleset_fd);
		warden->free_pages[warden->free_page_count++] = launch->page;
		launch->page = NULL;
		warden->starting--;
	}
	release_layer(&launch->layer);
	if (launch->sharing) {
		launch->sharing = false;
		warden->sharing--;
	}
	if (warden->has_strays && warden->sharing == 0)
		close_strays(warden);
}

/* Registers helpers that the child has made, so that their ends are recognised. */
static void adopt_helpers(struct warden *warden, struct launch *launch)
{
	if (launch->page == NULL || launch->has_init)
		return;
	if (launch->page->keeper_pid > 0 && launch->keeper_pid == 0) {
		launch->keeper_pid = launch->page->keeper_pid;
		set_pid(warden->table, launch, ROLE_KEEPER, launch->keeper_pid);
	}
	if (launch->page->nursery_pid > 0) {
		set_pid(warden->table, launch, ROLE_NURSERY, launch->page->nursery_pid);
		launch->page->nursery_pid = 0;
	}
}

/* Sends a signal to the program, which cannot be another process by now: the warden has not reaped it. */
int signal_process(struct launch *launch, int number, bool group)
{
	if (!launch->running || launch->pid <= 0)
		return -ESRCH;
	if (launch->pids[ROLE_MAIN] > 0)
		return kill(group ? -launch->pid : launch->pid, number) < 0 ? -errno : 0;
	if (launch->pid_fd < 0)
		return -ESRCH;
	if (syscall(NR_pidfd_send_signal, launch->pid_fd, number, NULL, group ? PIDFD_TO_PROCESS_GROUP : 0) ==
	    0)
		return 0;
	if (!group || errno != EINVAL)
		return -errno;
	/* Before Linux 6.9: as long as the process is there its number names its group. */
	if (syscall(NR_pidfd_send_signal, launch->pid_fd, 0, NULL, 0) < 0 || kill(-launch->pid, number) < 0)
		return -errno;
	return 0;
}

static void kill_execs(struct warden *warden, const struct launch *sandbox)
{
	struct launch *launch = NULL;

	while (sandbox->execs > 0 && (launch = next_launch(warden->table, launch)) != NULL)
		if (launch->sandbox == sandbox && launch != sandbox)
			signal_process(launch, SIGKILL, false);
}

void kill_sandbox(struct warden *warden, struct launch *launch)
{
	adopt_helpers(warden, launch);
	launch->dying = true;
	close_fd(&launch->kill_fd);
	close_fd(&launch->nursery_fd);
	kill_execs(warden, launch);
	if (launch->pids[ROLE_NURSERY] > 0)
		kill(launch->pids[ROLE_NURSERY], SIGKILL);
	/* The init goes last where it can: it reports how the program ended. */
	if (launch->running && signal_process(launch, SIGKILL, false) == 0)
		return;
	if (launch->pids[ROLE_INIT] == 0)
		return;
	if (launch->init_fd >= 0)
		shutdown(launch->init_fd, SHUT_WR);
	if (launch->namespaced)
		kill(launch->pids[ROLE_INIT], SIGKILL);
}

static void close_open_files(struct launch *launch)
{
	while (launch->open_file_count > 0)
		close_fd(&launch->open_files[--launch->open_file_count]);
}

/* Forgets a launch of which nothing is left, and says so. */
static void settle(struct warden *warden, struct launch *launch)
{
	if (launch->running)
		return;
	kill_sandbox(warden, launch);
	if (launch->pids[ROLE_KEEPER] > 0 || launch->pids[ROLE_NURSERY] > 0 || launch->pids[ROLE_INIT] > 0 ||
	    launch->execs > 0)
		return;
	if (launch->failure.stage != 0)
		post_failed(warden, launch->id, &launch->failure);
	else
		post_gone(warden, launch);
	release_shared(warden, launch);
	close_fd(&launch->listener_fd);
	close_fd(&launch->keeper_fd);
	close_open_files(launch);
	close_watched(warden, &launch->init_fd);
	close_fd(&launch->init_child_fd);
	free(launch->failure.argument);
	remove_launch(warden->table, launch);
	warden->quiet = true;
	warden->parking.refused = false;
}

static void pass_ready(struct warden *warden, struct launch *launch)
{
	if (!launch->known || launch->ready || launch->dying || launch->failure.stage != 0)
		return;
	if (!is_exec(launch) && launch->namespaced && launch->keeper_pid == 0)
		return;
	post_ready(warden, launch);
}

static void on_ready(struct warden *warden, struct launch *launch, const struct status_message *message,
		     pid_t pid)
{
	struct rlimit open_files = {.rlim_cur = message->open_files_soft, .rlim_max = message->open_files_hard};

	if (launch->known)
		return;
	launch->known = true;
	launch->pid = pid;
	launch->inner_pid = message->inner_pid;
	launch->last_stage = SG_STAGE_ATTACH;
	if (launch->has_init)
		launch->pid_fd = (int)syscall(NR_pidfd_open, pid, 0);
	if (is_exec(launch)) {
		warden->starting--;
		if (!launch->has_init)
			set_pid(warden->table, launch, ROLE_MAIN, pid);
		if (launch->sandbox->dying)
			signal_process(launch, SIGKILL, false);
	} else {
		launch->listener_fd = message->listener_fd;
		if (launch->page != NULL && launch->page->open_file_count <= SG_MAX_OPEN_FILES) {
			launch->open_file_count = launch->page->open_file_count;
			memcpy(launch->open_files, launch->page->open_files, sizeof(launch->open_files));
		}
		if (launch->page != NULL)
			store_layer(&warden->layers, &launch->layer, launch->page);
		adopt_helpers(warden, launch);
		if (launch->has_init && launch->page != NULL)
			launch->inner_keeper_pid = launch->page->keeper_pid;
		if (launch->has_init && !launch->namespaced)
			launch->keeper_pid = launch->inner_keeper_pid;
		/* Without the right to, for a process of another user, that does it itself once it has its own table. */
		if (prlimit(pid, RLIMIT_NOFILE, &open_files, NULL) < 0 && errno != EPERM) {
			set_failure(launch, SG_STAGE_RLIMITS, -errno, "rlimit", 6);
			kill_sandbox(warden, launch);
		}
	}
	pass_ready(warden, launch);
}

static void on_execing(struct warden *warden, struct launch *launch, const struct status_message *message)
{
	for (int stage = SG_STAGE_SESSION; stage < SG_STAGE_COUNT; stage++)
		launch->stage_ns[stage] = message->stage_ns[stage];
	launch->execing = true;
	launch->last_stage = SG_STAGE_EXEC;
	adopt_helpers(warden, launch);
	release_shared(warden, launch);
}

static void on_status_end(struct warden *warden, struct launch *launch)
{
	close_watched(warden, &launch->status_fd);
	if (launch->execing && launch->failure.stage == 0 && !launch->started) {
		launch->started = true;
		post_started(warden, launch);
	}
	/* Nobody will learn the pid of a process that ended before it said a word. */
	if (is_exec(launch) && !launch->known && launch->running)
		end_process(warden, launch, NULL);
}

void read_status(struct warden *warden, struct launch *launch)
{
	struct {
		struct status_message head;
		char argument[PATH_MAX];
	} message;
	struct packet packet;

	while (launch->status_fd >= 0) {
		int r = receive_packet(launch->status_fd, &message, sizeof(message), MSG_DONTWAIT, &packet);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			on_status_end(warden, launch);
			return;
		}
		close_packet(&packet);
		if (packet.size < sizeof(message.head))
			continue;
		switch (message.head.kind) {
		case STATUS_READY:
			on_ready(warden, launch, &message.head, packet.pid);
			break;
		case STATUS_KEEPER:
			launch->keeper_pid = packet.pid;
			pass_ready(warden, launch);
			break;
		case STATUS_EXECING:
			on_execing(warden, launch, &message.head);
			break;
		case STATUS_FAILED:
			set_failure(launch, message.head.stage, message.head.error, message.argument,
				    packet.size - sizeof(message.head));
			break;
		}
	}
}

/* A process that ended without saying why it did not become the program. */
static void explain_silence(struct warden *warden, struct launch *launch, const struct ending *ending)
{
	uint32_t stage = launch->page != NULL ? launch->page->stage : launch->last_stage;
	char text[40] = "ended";
	int error = -ESRCH;

	if (ending != NULL && WIFSIGNALED(ending->status)) {
		snprintf(text, sizeof(text), "killed by signal %d", WTERMSIG(ending->status));
		error = -EINTR;
	} else if (ending == NULL && is_exec(launch) && !launch->known) {
		snprintf(text, sizeof(text), "nursery"); /* which died with the packet, or before it made the process */
	}
	set_failure(launch, stage, error, text, strlen(text));
	if (launch->sharing)
		warden->has_strays = true;
}

/* The process of a launch ended; NULL: nothing is known of how. May forget the launch, and its sandbox. */
static void end_process(struct warden *warden, struct launch *launch, const struct ending *ending)
{
	struct launch *sandbox = launch->sandbox;

	launch->running = false;
	read_status(warden, launch);
	close_watched(warden, &launch->status_fd);
	close_fd(&launch->pid_fd);
	if (launch->execing && launch->failure.stage == 0 && ending != NULL) {
		if (!launch->started)
			post_started(warden, launch);
		launch->started = true;
		post_exited(warden, launch, ending);
	} else {
		explain_silence(warden, launch, ending);
	}
	adopt_helpers(warden, launch);
	if (is_exec(launch)) {
		if (!launch->known)
			warden->starting--;
		if (launch->failure.stage != 0)
			post_failed(warden, launch->id, &launch->failure);
		release_shared(warden, launch);
		free(launch->failure.argument);
		remove_launch(warden->table, launch);
		sandbox->execs--;
		settle(warden, sandbox);
		return;
	}
	release_shared(warden, launch);
	settle(warden, launch);
}

/* An exec child may end before its first words were read: reads those of all that have not spoken yet. */
static void hear_starting(struct warden *warden)
{
	struct launch *launch = NULL;

	while (warden->starting > 0 && (launch = next_launch(warden->table, launch)) != NULL) {
		adopt_helpers(warden, launch);
		if (is_exec(launch) && !launch->known)
			read_status(warden, launch);
	}
}

static struct launch *find_inner(struct warden *warden, struct launch *sandbox, pid_t inner_pid)
{
	struct launch *launch = NULL;

	if (sandbox->running && sandbox->inner_pid == inner_pid)
		return sandbox;
	while (sandbox->execs > 0 && (launch = next_launch(warden->table, launch)) != NULL)
		if (launch->sandbox == sandbox && launch->running && launch->inner_pid == inner_pid)
			return launch;
	return NULL;
}

void read_init(struct warden *warden, struct launch *launch)
{
	uint32_t place = place_of(warden->table, launch);
	uint32_t generation = launch->generation;
	struct init_message message;
	struct packet packet;

	while ((launch = launch_at(warden->table, place, generation)) != NULL && launch->init_fd >= 0) {
		struct launch *ended;
		int r = receive_packet(launch->init_fd, &message, sizeof(message), MSG_DONTWAIT, &packet);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			close_watched(warden, &launch->init_fd);
			return;
		}
		close_packet(&packet);
		if (message.kind == INIT_SETTLED) {
			close_fd(&launch->init_child_fd);
			launch->inner_pid = message.pid;
			continue;
		}
		if (message.kind == INIT_LIMIT) {
			if (launch->dying)
				continue;
			post_limit(warden, launch, (uint32_t)message.status, message.max_rss_kib * 1024, message.user_us);
			if (message.status <= SG_LIMIT_TASKS)
				kill_sandbox(warden, launch);
			continue;
		}
		if (message.pid == launch->inner_keeper_pid && !launch->dying) {
			kill_sandbox(warden, launch); /* nothing holds it together any more */
			continue;
		}
		ended = find_inner(warden, launch, message.pid);
		if (ended == NULL && warden->starting > 0) {
			hear_starting(warden);
			ended = find_inner(warden, launch, message.pid);
		}
		if (ended != NULL) {
			struct ending ending = {.status = message.status,
						.user_us = message.user_us,
						.system_us = message.system_us,
						.max_rss_kib = message.max_rss_kib};

			end_process(warden, ended, &ending);
		}
	}
}

/* Everything below an init ended with it; what it did not report was killed. */
static void end_namespace(struct warden *warden, struct launch *sandbox, struct ending *ending)
{
	uint32_t place = place_of(warden->table, sandbox);
	uint32_t generation = sandbox->generation;
	struct launch *launch = NULL;

	read_init(warden, sandbox);
	if (launch_at(warden->table, place, generation) == NULL)
		return;
	close_watched(warden, &sandbox->init_fd);
	close_fd(&sandbox->init_child_fd);
	ending->status = SIGKILL;
	while (sandbox->execs > 0 && (launch = next_launch(warden->table, launch)) != NULL)
		if (launch->sandbox == sandbox && launch != sandbox && launch->running)
			end_process(warden, launch, ending);
	if (launch_at(warden->table, place, generation) == NULL)
		return;
	if (sandbox->running)
		end_process(warden, sandbox, ending);
	else
		settle(warden, sandbox);
}

static void on_child_end(struct warden *warden, pid_t pid, struct ending *ending)
{
	enum role role;
	struct launch *launch = find_pid(warden->table, pid, &role);

	if (launch == NULL && warden->starting > 0) {
		hear_starting(warden);
		launch = find_pid(warden->table, pid, &role);
	}
	if (launch == NULL) {
		forget_parked(&warden->parking, pid); /* or an orphan of some sandbox */
		return;
	}
	clear_pid(warden->table, launch, role);
	switch (role) {
	case ROLE_MAIN:
		end_process(warden, launch, ending);
		return;
	case ROLE_KEEPER:
		/* Without it nothing holds the sandbox together; what was orphaned meanwhile is the last sweep's. */
		if (!launch->dying && launch->running)
			kill_tree(launch->pid);
		if (!launch->dying)
			kill_sandbox(warden, launch);
		settle(warden, launch);
		return;
	case ROLE_NURSERY:
		close_fd(&launch->nursery_fd);
		settle(warden, launch);
		return;
	case ROLE_INIT:
		end_namespace(warden, launch, ending);
		return;
	case ROLE_COUNT:
		return;
	}
}

void reap_children(struct warden *warden)
{
	for (int i = 0; i < REAPED_PER_TURN; i++) {
		struct ending ending;
		struct rusage usage;
		int status;
		pid_t pid = wait4(-1, &status, WNOHANG | __WALL, &usage);

		if (pid <= 0) {
			warden->more_to_reap = false;
			return;
		}
		ending.status = status;
		ending.user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
		ending.system_us =
			(uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec;
		ending.max_rss_kib = (uint64_t)usage.ru_maxrss;
		on_child_end(warden, pid, &ending);
	}
	warden->more_to_reap = true;
}
