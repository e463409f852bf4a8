/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rulesets that are kept because the next launch often has the same outer layer. Their descriptors are in the
 * table that launching children share with the warden; what a child made, the warden takes over.
 */
#ifndef SANDGATE_LAYERS_H
#define SANDGATE_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "child.h"

#define KEPT_LAYERS 16u

struct kept_layer {
	unsigned char *key; /* the layer's bytes in the plan; NULL: unused */
	size_t key_size;
	int fd;			/* -1 until a child has made it */
	bool outdated;		/* not to be found any more */
	unsigned int users;	/* launches that may read the descriptor's number */
	uint64_t last_use;
	uint32_t path_count;
	struct path_identity identities[IDENTITY_LIMIT];
};

struct layers {
	uint64_t uses;
	struct kept_layer kept[KEPT_LAYERS];
};

/*
 * The place of a plan's outer layer, made if there is room; NULL when it is not to be kept. Its identities
 * are copied to the page when it has a descriptor. To be given back with release_layer.
 */
struct kept_layer *use_layer(struct layers *layers, const struct sg_plan *plan, size_t size,
			     struct launch_page *page);

/* Takes the ruleset that a child left in its page. It is the layer's from now on, or closed. */
void store_layer(struct layers *layers, struct kept_layer **layer, struct launch_page *page);

void release_layer(struct kept_layer **layer);

#endif
