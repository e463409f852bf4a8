/* SPDX-License-Identifier: Apache-2.0 */
/* Resolved paths that a keeper holds open until they are opened or released. */
#ifndef SANDGATE_PINS_H
#define SANDGATE_PINS_H

#include <stdbool.h>
#include <stdint.h>

#include "resolve.h"

#define PIN_LIMIT 512

struct pin {
	uint64_t op_id;
	int fd; /* -1: unused */
	bool exists;
	char *name; /* in the directory fd, when it does not exist */
};

struct pins {
	struct pin *all; /* NULL until the first */
};

/* NULL when there is none. */
struct pin *find_pin(struct pins *pins, uint64_t op_id);

/* Returns 0 and takes place->fd; or -EEXIST for an op_id in use, -EMFILE at the limit, -ENOMEM. */
int add_pin(struct pins *pins, uint64_t op_id, struct place *place);

void release_pin(struct pin *pin);

#endif
