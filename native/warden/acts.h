/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper's acts share: see SG_KEEPER_ACT in abi.h. */
#ifndef SANDGATE_ACTS_H
#define SANDGATE_ACTS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "keeper.h"

/* The kernel decides rightly by itself: the call is to run as it was issued. */
#define LEAVE (-SG_ACT_LEAVE)

/* A request for an act, taken apart. */
struct act {
	uint64_t op_id;
	struct sg_keeper_act head;
	uint32_t flags;
	mode_t mode;
	mode_t umask;
	char path[PATH_MAX];
	char name[NAME_MAX + 1];
	const char *value; /* head.value bytes */
	int directory_fd;  /* or the file itself; owned by the request's handler, like the next */
	int other_fd;
	int fd; /* of the file, where the act has pinned it */
	bool is_link;
	bool is_regular;
	char link[32];	/* its path in /proc, which leads to it and no further */
	int ret_opened; /* OPEN: the descriptor */
};

/*
 * Acts on paths that the kernel refuses only because a denied path lies beyond. Return what the call did, LEAVE,
 * -EINPROGRESS when a thread replies, or another negative errno.
 */
long act_open(struct keeper *keeper, struct act *act);
long act_mkdir(struct keeper *keeper, struct act *act);
long act_mknod(struct keeper *keeper, struct act *act);
long act_rmdir(struct keeper *keeper, struct act *act);
long act_unlink(struct keeper *keeper, struct act *act);
long act_symlink(struct keeper *keeper, struct act *act);
long act_link(struct keeper *keeper, struct act *act);
long act_rename(struct keeper *keeper, struct act *act);
long act_truncate(struct keeper *keeper, struct act *act);

#endif
