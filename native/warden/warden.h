/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The warden: one small, single-threaded process that launches, reaps and guards all sandboxes of a server.
 * It waits for nothing but its epoll set. See abi.h for what it speaks with the server.
 */
#ifndef SANDGATE_WARDEN_H
#define SANDGATE_WARDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../abi.h"
#include "child.h"
#include "layers.h"
#include "outbox.h"
#include "parked.h"
#include "table.h"
#include "wire.h"

#define CONTROL_FD 3
#define DESCRIPTOR_LIMIT 65536u
#define PAGE_SIZE ((size_t)4096)
#define PAGE_COUNT 1024u /* launches between their start and their program's */

enum event_kind {
	EVENT_CONTROL,
	EVENT_SIGNAL,
	EVENT_STATUS,
	EVENT_INIT,
};

struct warden {
	pid_t pid;
	int epoll_fd;
	int signal_fd;
	struct rlimit open_files; /* as it was started with */
	struct table *table;
	struct outbox *outbox;
	void *message; /* MESSAGE_LIMIT bytes */
	void *pages;   /* PAGE_COUNT of PAGE_SIZE */
	struct layers layers;
	struct parking parking;
	struct launch_page *free_pages[PAGE_COUNT];
	unsigned int free_page_count;
	unsigned int starting; /* launches whose children are not all known yet */
	unsigned int sharing;  /* children that use the warden's descriptor table */
	bool has_strays;       /* such a child was killed and may have left descriptors */
	bool quiet; /* a sandbox is gone: there may be time to make a child for the next */
	bool more_to_reap;
	bool ending;
};

struct ending {
	int status; /* as wait(2) gives it */
	uint64_t user_us;
	uint64_t system_us;
	uint64_t max_rss_kib;
};

/* begin.c: LAUNCH and EXEC. The packet's descriptors are taken or closed. */
void begin_launch(struct warden *warden, const struct sg_plan *plan, size_t size, struct packet *packet);
void begin_exec(struct warden *warden, const struct sg_plan *plan, size_t size, struct packet *packet);
int watch_fd(struct warden *warden, int fd, uint32_t events, enum event_kind kind, const struct launch *launch);

/* Closes what is watched. A new process may hold a copy for a moment, which would go on to report events. */
void close_watched(struct warden *warden, int *fd);

/* supervise.c: what becomes of a launch. Each may forget it. */
void read_status(struct warden *warden, struct launch *launch);
void read_init(struct warden *warden, struct launch *launch);
void reap_children(struct warden *warden);
void kill_sandbox(struct warden *warden, struct launch *launch);
int signal_process(struct launch *launch, int number, bool group);

/* Closes what a launch shared with its child, once that has its own table or is gone. */
void release_shared(struct warden *warden, struct launch *launch);
void set_failure(struct launch *launch, uint32_t stage, int error, const void *argument, size_t length);

/* reports.c: messages to the server. */
void post_hello(struct warden *warden);
void post_ready(struct warden *warden, struct launch *launch);
void post_started(struct warden *warden, const struct launch *launch);
void post_failed(struct warden *warden, uint64_t launch_id, const struct failure *failure);
void post_exited(struct warden *warden, const struct launch *launch, const struct ending *ending);
void post_gone(struct warden *warden, const struct launch *launch);
void post_limit(struct warden *warden, const struct launch *launch, uint32_t limit, uint64_t memory_bytes,
		uint64_t cpu_us);

/* strays.c: closes descriptors that belong to no launch any more. */
void close_strays(struct warden *warden);

#endif
