/* SPDX-License-Identifier: Apache-2.0 */
/* The engine thread's side of the shared library: one epoll set and what is in it. */
#ifndef SANDGATE_ENGINE_H
#define SANDGATE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "../abi.h"

/* System calls whose pointed-to arguments can be copied: numbers below this. */
#define SHAPED_CALLS 512

struct source {
	int fd; /* -1: the slot is free */
	enum sg_source type;
};

/*
 * Owned by the engine thread, which is its only user. `answers` and `records` belong to
 * the caller and outlive the engine.
 */
struct engine {
	int epoll_fd;
	uint32_t turn;
	struct source *sources; /* by slot */
	uint32_t source_count;
	const struct sg_answer *answers;
	uint8_t *records;
	uint32_t records_size;
	uint32_t used;          /* bytes of records written in this turn */
	uint32_t largest_call;  /* bytes that one CALL record may need */
	struct sg_shape shapes[SHAPED_CALLS][SG_SHAPES_PER_CALL];
};

/* Room for one more record of `payload` bytes? */
static inline int has_room(const struct engine *engine, uint32_t payload)
{
	return engine->records_size - engine->used >= sizeof(struct sg_record) + payload;
}

/* Appends an empty record; the caller made sure of the room. */
struct sg_record *append_record(struct engine *engine, enum sg_record_kind kind, uint32_t slot);

/* Copies what the call points to behind its record. Returns 0, or -ENOENT when the caller is gone. */
int copy_arguments(struct engine *engine, struct sg_record *record, int listener_fd);

/* Whether a notification still waits. Returns 1, 0, or -errno. */
int sg_engine_valid(intptr_t handle, uint32_t slot, const uint64_t *id);

/* Fills domain, type and protocol of a socket. Returns 0 or -errno. socket(7). */
int sg_socket_kind(int fd, int32_t *ret_kind);

#endif
