/* SPDX-License-Identifier: Apache-2.0 */
/* What the program itself may do where, by inodes: as Landlock looks at it, for what Landlock does not decide. */
#ifndef SANDGATE_GRANTS_H
#define SANDGATE_GRANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan.h"
#include "ruleset.h"

/* Landlock's rights. */
struct rights {
	uint64_t kernel; /* what the program's own layer gives */
	uint64_t whole;	 /* what is granted: more, where a denied path keeps the kernel from being told of it */
};

struct grant {
	struct path_identity identity; /* its mount does not matter */
	struct rights rights;
	bool denied;
	bool leads; /* a directory above a denied path */
};

/* Where a denied path is: also what takes its place is denied. */
struct denied_place {
	int directory_fd;
	int file_fd; /* of what was denied first: its number is not used again while this is open; or -1 */
	char *name;
	struct path_identity directory;
	struct path_identity now;
};

struct grants {
	bool everything; /* there are no layers */
	bool sorted;
	size_t count;
	struct grant *all;
	const struct sg_path_rule *denied; /* of the plan, until the places are found */
	size_t denied_count;
	struct denied_place *places;
	size_t place_count;
};

/*
 * Notes the grants of a plan's inner layer. `outer` are the identities of the outer one's paths, or NULL when they
 * are not known. The memory is the caller's. Returns 0 or -ENOMEM.
 */
int note_grants(const struct plan *plan, const struct path_identity *outer, struct grants *ret_grants);

/* Finds what is denied, for a process that has a descriptor table of its own. Returns 0 or a negative errno. */
int note_denied(struct grants *grants);

/*
 * The rights on an open file: those of itself and, through the directories above it, of what it lies in.
 * Returns 0; -EACCES when it is denied; -ENOENT for what has no place in the file system (any more); or another
 * negative errno.
 */
int find_rights(struct grants *grants, int fd, struct rights *ret_rights);

/* Likewise, on a name in a directory that need not exist. */
int find_rights_at(struct grants *grants, int directory_fd, const char *name, struct rights *ret_rights);

/* Whether a denied path lies below a directory, or is the file. */
bool leads_to_denied(struct grants *grants, int fd);

#endif
