/* SPDX-License-Identifier: Apache-2.0 */
/* What a process does to itself, for good, before it becomes a program. */
#ifndef SANDGATE_CONFINE_H
#define SANDGATE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#include "plan.h"

/* What a failed step was about: a path, or a name. Points into the plan or to a constant. */
struct subject {
	const char *bytes;
	size_t length;
};

/*
 * Applies the plan's limits but that of open files: until the process has a descriptor table of its own,
 * its numbers are the warden's. The warden sets that one, from open_files_limit, before the process goes on.
 */
int apply_limits(const struct plan *plan);

/* Replaces `limit` by the plan's limit of open files, if it has one. */
void open_files_limit(const struct plan *plan, struct rlimit *limit);

/* Takes on the plan's ids, keeping capabilities until they are dropped. */
int apply_ids(const struct plan *plan, struct subject *ret_subject);

/*
 * Empties the bounding set, the ambient set and all others, and locks the securebits.
 * Without the right to do so: -EPERM, or 0 when the plan says that this was found to be harmless.
 */
int drop_capabilities(bool may_keep_bounding, struct subject *ret_subject);

/* Installs the plan's filter. Returns 0 or a negative errno; ret_listener is set when the plan asks for one. */
int install_filter(const struct plan *plan, int *ret_listener);

#endif
