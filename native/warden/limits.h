/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a sandbox as a whole where no control group has them: an init looks at all its descendants, some twenty
 * times a second, and says which limit they are beyond. What counts as memory, of all of them together: anonymous
 * pages (those that several share are divided among them), what of these is swapped out, and each object of shared
 * anonymous memory up to the furthest byte that was ever mapped of it, whether or not a process maps it just now.
 * Pages of files are not counted: the kernel takes them back when it needs them.
 */
#ifndef SANDGATE_LIMITS_H
#define SANDGATE_LIMITS_H

#include "../abi.h"
#include "../members.h"

struct shared_object {
	uint64_t inode;
	uint64_t bytes; /* the furthest byte ever mapped */
	bool seen;
};

struct limits {
	uint64_t memory_bytes; /* 0: none */
	uint64_t cpu_time_us;  /* 0: none */
	uint32_t max_tasks;    /* 0: none */
	bool tasks_kept;       /* by the kernel */
	uint32_t cpu_millis;   /* 0: none */
	int64_t credit_us;     /* CPU time that may be used at once */
	uint64_t credited_ns;  /* when that was true */
	uint64_t charged_us;   /* of cpu_us */
	bool stopped;          /* until there is credit again */
	bool tasks_full;       /* it was told that they are as many as there may be */
	struct members members;
	uint64_t seen_ticks;	    /* CPU time of members as it was seen to grow */
	uint64_t peak_memory_bytes; /* as far as it was looked at */
	uint64_t cpu_us;
	struct shared_object *objects;
	size_t object_count;
	size_t object_room;
	uint64_t memory_device; /* of shared anonymous memory */
	pid_t self;		/* the caller, as /proc shows it */
	bool blind;		/* /proc is not there: nothing can be enforced */
};

/* Returns whether there is anything to look at. */
bool start_limits(struct limits *limits, const struct sg_plan *plan);

/* Looks once. Returns the limit that is exceeded, or SG_LIMIT_NONE; *ret_wait_ms is when to look again. */
enum sg_limit look_at_limits(struct limits *limits, unsigned int *ret_wait_ms);

#endif
