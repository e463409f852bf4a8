/* SPDX-License-Identifier: Apache-2.0 */
/* What the program itself may do where, by inodes: as Landlock looks at it, for what Landlock does not cover. */
#ifndef SANDGATE_GRANTS_H
#define SANDGATE_GRANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan.h"
#include "ruleset.h"

struct grant {
	struct path_identity identity; /* its mount does not matter */
	uint64_t access;	       /* Landlock's rights */
};

struct grants {
	bool everything; /* there are no layers */
	bool sorted;
	size_t count;
	struct grant *all;
};

/*
 * Notes the grants of a plan's inner layer. `outer` are the identities of the outer one's paths, or NULL when they
 * are not known. The memory is the caller's. Returns 0 or -ENOMEM.
 */
int note_grants(const struct plan *plan, const struct path_identity *outer, struct grants *ret_grants);

/*
 * The rights that are granted on an open file: on itself and, through the directories above it, on what it lies in.
 * Returns 0; -ENOENT for what has no place in the file system (any more); or another negative errno.
 */
int find_rights(struct grants *grants, int fd, uint64_t *ret_access);

#endif
