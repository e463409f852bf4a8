// SPDX-License-Identifier: Apache-2.0
/*
 * A child that is killed while it shares the warden's descriptor table may leave what it had just opened.
 * Once no child shares the table, whatever is not the warden's own is such a stray.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "warden.h"

struct owned {
	uint8_t bits[DESCRIPTOR_LIMIT / 8];
};

static void own(struct owned *owned, int fd)
{
	if (fd >= 0 && (unsigned int)fd < DESCRIPTOR_LIMIT)
		owned->bits[fd / 8] |= (uint8_t)(1u << (fd % 8));
}

static void own_all_of_launch(struct owned *owned, const struct launch *launch)
{
	const int fds[] = {
		launch->pid_fd,	       launch->stdio[0],	 launch->stdio[1],   launch->stdio[2],
		launch->memfd,	       launch->status_child_fd,	 launch->go_fd,	     launch->keeper_child_fd,
		launch->kill_child_fd, launch->nursery_child_fd, launch->status_fd,  launch->listener_fd,
		launch->keeper_fd,     launch->kill_fd,		 launch->nursery_fd, launch->init_fd,
		launch->init_child_fd, launch->parked_fds[0],	 launch->parked_fds[1],
		launch->page != NULL ? launch->page->ruleset_fd : -1};

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		own(owned, fds[i]);
	for (uint32_t i = 0; i < launch->open_file_count; i++)
		own(owned, launch->open_files[i]);
}

static void own_kept(int fd, void *context)
{
	own(context, fd);
}

void close_strays(struct warden *warden)
{
	struct owned owned = {0};
	struct dirent *entry;
	DIR *directory = opendir("/proc/self/fd");

	if (directory == NULL)
		return;
	for (int fd = 0; fd <= CONTROL_FD; fd++)
		own(&owned, fd);
	own(&owned, warden->epoll_fd);
	own(&owned, warden->signal_fd);
	own(&owned, dirfd(directory));
	for (unsigned int i = 0; i < warden->parking.count; i++) {
		own(&owned, warden->parking.children[i].fd);
		own(&owned, warden->parking.children[i].child_fd);
	}
	for (unsigned int i = 0; i < KEPT_LAYERS; i++)
		if (warden->layers.kept[i].key != NULL)
			own(&owned, warden->layers.kept[i].fd);
	each_kept_fd(warden->outbox, own_kept, &owned);
	for (struct launch *launch = next_launch(warden->table, NULL); launch;
	     launch = next_launch(warden->table, launch))
		own_all_of_launch(&owned, launch);
	while ((entry = readdir(directory)) != NULL) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || (unsigned int)fd >= DESCRIPTOR_LIMIT)
			continue;
		if (!(owned.bits[fd / 8] & (1u << (fd % 8))))
			close(fd);
	}
	closedir(directory);
	warden->has_strays = false;
}
