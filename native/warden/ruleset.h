/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock rulesets: made from a plan's layer, and recognised as still being what that layer means. */
#ifndef SANDGATE_RULESET_H
#define SANDGATE_RULESET_H

#include <stdbool.h>
#include <stdint.h>

#include "confine.h"

#define IDENTITY_LIMIT 144u /* paths of a layer that is worth keeping */

/* What a path named when a ruleset was made. A ruleset holds on to it, so that no number is used again. */
struct path_identity {
	uint64_t mount; /* 0: nothing that can be reached */
	uint64_t inode;
	uint32_t device_major;
	uint32_t device_minor;
};

/* What a name in a directory is, a link itself; an empty one is the directory's descriptor. Returns 0 or a negative errno. */
int identify_file(int directory_fd, const char *name, struct path_identity *ret_identity);

/* What a rule is about. Returns 0 or a negative errno. */
int identify_rule(const struct sg_path_rule *rule, struct path_identity *ret_identity);

/*
 * Makes the ruleset of a layer. `identities` may be NULL, else it has room for one per path.
 * Returns a descriptor, which is close-on-exec, or a negative errno with ret_subject set. landlock(7).
 */
int make_ruleset(const struct sg_ruleset *ruleset, struct path_identity *identities, struct subject *ret_subject);

/* Whether every path of the layer still names what it did. */
bool paths_unchanged(const struct sg_ruleset *ruleset, const struct path_identity *identities);

/* Enters a layer. A ruleset may be entered twice, for two layers. */
int enter_ruleset(int ruleset_fd, struct subject *ret_subject);

#endif
