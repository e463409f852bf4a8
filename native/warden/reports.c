// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "warden.h"

/* A message that the socket does not take any more means that the server is gone: its end is read next. */
static void send_report(struct warden *warden, struct sg_message *head, uint32_t type, uint64_t id, size_t size,
			const int *fds, unsigned int fd_count)
{
	head->type = type;
	head->size = (uint32_t)size;
	head->launch_id = id;
	if (post(warden->outbox, head, size, fds, fd_count) < 0)
		warden->ending = true;
}

void post_hello(struct warden *warden)
{
	struct sg_hello message = {.abi = SG_ABI_VERSION, .pid = (uint32_t)warden->pid};

	send_report(warden, &message.head, SG_MSG_HELLO, 0, sizeof(message), NULL, 0);
}

static void fill_ready(struct sg_ready *message, const struct launch *launch)
{
	*message = (struct sg_ready){.pid = (uint32_t)launch->pid,
				     .inner_pid = (uint32_t)launch->inner_pid,
				     .keeper_pid = (uint32_t)launch->keeper_pid};
}

void post_ready(struct warden *warden, struct launch *launch)
{
	struct sg_ready message;
	unsigned int fd_count = 0;
	int fds[3 + SG_MAX_OPEN_FILES];

	/* The child still waits on this number in the shared table. */
	fds[fd_count] = fcntl(launch->go_fd, F_DUPFD_CLOEXEC, 0);
	if (fds[fd_count] < 0) {
		set_failure(launch, SG_STAGE_ATTACH, -errno, "go", 2);
		kill_sandbox(warden, launch);
		return;
	}
	fd_count++;
	if (launch->listener_fd >= 0)
		fds[fd_count++] = launch->listener_fd;
	if (launch->keeper_fd >= 0)
		fds[fd_count++] = launch->keeper_fd;
	for (uint32_t i = 0; i < launch->open_file_count; i++)
		fds[fd_count++] = launch->open_files[i];
	launch->listener_fd = -1;
	launch->keeper_fd = -1;
	launch->open_file_count = 0;
	launch->ready = true;
	fill_ready(&message, launch);
	send_report(warden, &message.head, SG_MSG_READY, launch->id, sizeof(message), fds, fd_count);
}

void post_started(struct warden *warden, const struct launch *launch)
{
	struct sg_started message = {.pid = (uint32_t)launch->pid};

	memcpy(message.stage_ns, launch->stage_ns, sizeof(message.stage_ns));
	send_report(warden, &message.head, SG_MSG_STARTED, launch->id, sizeof(message), NULL, 0);
}

void post_failed(struct warden *warden, uint64_t launch_id, const struct failure *failure)
{
	struct {
		struct sg_failed head;
		char argument[PATH_MAX];
	} message = {.head = {.stage = failure->stage, .error = failure->error}};
	uint32_t length = failure->length < PATH_MAX ? failure->length : PATH_MAX;

	memcpy(message.argument, failure->argument, length);
	message.head.detail = length;
	send_report(warden, &message.head.head, SG_MSG_FAILED, launch_id, sizeof(message.head) + length, NULL,
		    0);
}

void post_exited(struct warden *warden, const struct launch *launch, const struct ending *ending)
{
	struct sg_exited message = {.pid = (uint32_t)launch->pid,
				    .status = (uint32_t)ending->status,
				    .user_us = ending->user_us,
				    .system_us = ending->system_us,
				    .max_rss_kib = ending->max_rss_kib};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	message.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	send_report(warden, &message.head, SG_MSG_EXITED, launch->id, sizeof(message), NULL, 0);
}

void post_gone(struct warden *warden, const struct launch *launch)
{
	struct sg_ready message;

	fill_ready(&message, launch);
	send_report(warden, &message.head, SG_MSG_GONE, launch->id, sizeof(message), NULL, 0);
}

void post_limit(struct warden *warden, const struct launch *launch, uint32_t limit, uint64_t memory_bytes,
		uint64_t cpu_us)
{
	struct sg_limit_report message = {.limit = limit, .memory_bytes = memory_bytes, .cpu_us = cpu_us};

	send_report(warden, &message.head, SG_MSG_LIMIT, launch->id, sizeof(message), NULL, 0);
}
