// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "pins.h"
#include "wire.h"

struct pin *find_pin(struct pins *pins, uint64_t op_id)
{
	for (unsigned int i = 0; pins->all != NULL && i < PIN_LIMIT; i++)
		if (pins->all[i].fd >= 0 && pins->all[i].op_id == op_id)
			return &pins->all[i];
	return NULL;
}

void release_pin(struct pin *pin)
{
	close_fd(&pin->fd);
	free(pin->name);
	pin->name = NULL;
}

int add_pin(struct pins *pins, uint64_t op_id, struct place *place)
{
	struct pin *free_pin = NULL;

	if (pins->all == NULL) {
		pins->all = malloc(PIN_LIMIT * sizeof(*pins->all));
		if (pins->all == NULL)
			return -ENOMEM;
		for (unsigned int i = 0; i < PIN_LIMIT; i++)
			pins->all[i] = (struct pin){.fd = -1};
	}
	if (find_pin(pins, op_id) != NULL)
		return -EEXIST;
	for (unsigned int i = 0; free_pin == NULL && i < PIN_LIMIT; i++)
		if (pins->all[i].fd < 0)
			free_pin = &pins->all[i];
	if (free_pin == NULL)
		return -EMFILE;
	free_pin->name = NULL;
	if (!place->exists) {
		free_pin->name = strdup(place->name);
		if (free_pin->name == NULL)
			return -ENOMEM;
	}
	free_pin->op_id = op_id;
	free_pin->fd = place->fd;
	free_pin->exists = place->exists;
	place->fd = -1;
	return 0;
}
