// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "layers.h"
#include "wire.h"

/* The outer layer of a plan that is in the message; NULL when it is elsewhere, malformed, or has too many paths. */
static const struct sg_ruleset *outer_layer(const struct sg_plan *plan, size_t size)
{
	const struct sg_span *span = &plan->outer;
	const struct sg_ruleset *outer;

	if ((plan->flags & (SG_PLAN_MEMFD | SG_PLAN_NO_LANDLOCK)) || span->offset % 8 != 0 ||
	    span->offset > size || span->length > size - span->offset || span->length < sizeof(*outer))
		return NULL;
	outer = (const void *)((const char *)plan + span->offset);
	return outer->path_count <= IDENTITY_LIMIT ? outer : NULL;
}

static void forget(struct kept_layer *layer)
{
	close_fd(&layer->fd);
	free(layer->key);
	layer->key = NULL;
}

/* An unused place, or the one that was not used for the longest time. */
static struct kept_layer *choose_place(struct layers *layers)
{
	struct kept_layer *oldest = NULL;

	for (unsigned int i = 0; i < KEPT_LAYERS; i++) {
		struct kept_layer *layer = &layers->kept[i];

		if (layer->key == NULL)
			return layer;
		if (layer->users == 0 && (oldest == NULL || layer->last_use < oldest->last_use))
			oldest = layer;
	}
	if (oldest != NULL)
		forget(oldest);
	return oldest;
}

static struct kept_layer *add_layer(struct layers *layers, const void *key, size_t key_size,
				    uint32_t path_count)
{
	struct kept_layer *layer = choose_place(layers);

	if (layer == NULL)
		return NULL;
	layer->key = malloc(key_size);
	if (layer->key == NULL)
		return NULL;
	memcpy(layer->key, key, key_size);
	layer->key_size = key_size;
	layer->fd = -1;
	layer->outdated = false;
	layer->users = 0;
	layer->path_count = path_count;
	return layer;
}

struct kept_layer *use_layer(struct layers *layers, const struct sg_plan *plan, size_t size,
			     struct launch_page *page)
{
	const struct sg_ruleset *outer = outer_layer(plan, size);
	struct kept_layer *found = NULL;

	if (outer == NULL)
		return NULL;
	for (unsigned int i = 0; i < KEPT_LAYERS && found == NULL; i++) {
		struct kept_layer *layer = &layers->kept[i];

		if (layer->key != NULL && !layer->outdated && layer->key_size == plan->outer.length &&
		    memcmp(layer->key, outer, layer->key_size) == 0)
			found = layer;
	}
	if (found == NULL)
		found = add_layer(layers, outer, plan->outer.length, outer->path_count);
	if (found == NULL)
		return NULL;
	found->last_use = ++layers->uses;
	found->users++;
	if (found->fd >= 0)
		memcpy(page->identities, found->identities, found->path_count * sizeof(*found->identities));
	return found;
}

void store_layer(struct layers *layers, struct kept_layer **layer, struct launch_page *page)
{
	struct kept_layer *old = *layer;

	if (page->ruleset_fd < 0)
		return;
	if (old != NULL && old->fd >= 0 && !old->outdated &&
	    memcmp(old->identities, page->identities, old->path_count * sizeof(*old->identities)) != 0) {
		/* What its paths name has changed: who uses it now goes on with its number. */
		old->outdated = true;
		*layer = add_layer(layers, old->key, old->key_size, old->path_count);
		if (*layer != NULL) {
			(*layer)->users = 1;
			(*layer)->last_use = ++layers->uses;
		}
		release_layer(&old);
	}
	if (*layer == NULL || (*layer)->fd >= 0) {
		close_fd(&page->ruleset_fd);
		return;
	}
	(*layer)->fd = page->ruleset_fd;
	page->ruleset_fd = -1;
	memcpy((*layer)->identities, page->identities, (*layer)->path_count * sizeof(*page->identities));
}

void release_layer(struct kept_layer **layer)
{
	struct kept_layer *released = *layer;

	*layer = NULL;
	if (released != NULL && --released->users == 0 && (released->outdated || released->fd < 0))
		forget(released);
}
