/* SPDX-License-Identifier: Apache-2.0 */
/* A launch plan, checked and ready to be used by the process that it describes. */
#ifndef SANDGATE_PLAN_H
#define SANDGATE_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "../abi.h"

#define PLAN_LIMIT (4u << 20) /* bytes of a plan, and of the pointers to its strings */

struct plan {
	const struct sg_plan *head;
	char **argv; /* NULL-terminated, at least one */
	char **envp;
	const char *cwd;    /* "/" when the plan has none */
	const char *search; /* search_length bytes */
	size_t search_length;
	const struct sg_rlimit *rlimits;
	size_t rlimit_count;
	const struct sg_ruleset *outer; /* NULL when there is none */
	const struct sg_ruleset *inner; /* NULL: equal to outer */
	size_t outer_size;
	size_t inner_size;
	const struct sock_filter *filter;
	size_t filter_length;
	const struct sg_path_rule *denied; /* one after the other, see next_path_rule */
	size_t denied_count;
	const struct sg_mount *mounts; /* NULL when there are none */
	size_t mount_count;
	const struct sg_path_rule *whole; /* likewise; none: what is granted is the inner layer */
	size_t whole_count;
};

/* The rule behind one that has been checked; its path's bytes lie between. */
const struct sg_path_rule *next_path_rule(const struct sg_path_rule *rule);

/* What a step is about: NUL-terminated, "" when it has none. Its data has step->data bytes. */
const char *mount_path(const struct sg_mount *step);
const char *mount_source(const struct sg_mount *step);
const char *mount_data(const struct sg_mount *step);
const struct sg_mount *next_mount(const struct sg_mount *step);

/* Whether the header's bytes are those of a plan. */
bool is_plan(const struct sg_plan *head, size_t size);

/*
 * Whether the outer layer confines signals, so that kill(-1) reaches the sandbox's own processes only.
 * `memfd` is read when the plan is there. A plan that cannot be read is not scoped.
 */
bool plan_confines_signals(const struct sg_plan *head, size_t size, int memfd);

/* Makes the kernel provide the memory that decoding a usual plan needs, ahead of time. */
void touch_plan_memory(void);

/*
 * Decodes a plan; it may be used once in a process, which needs no memory from the kernel's allocator for it.
 * `head` must stay as it is. Returns 0 or -EINVAL, -E2BIG, or what reading the memfd gave.
 */
int load_plan(const struct sg_plan *head, size_t size, int memfd, struct plan *ret_plan);

#endif
