// SPDX-License-Identifier: Apache-2.0
/* Copies what a held call points to out of its caller's memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "../kernel.h"
#include "engine.h"

#define PAGE 4096u
#define MAX_STRINGS 1024

/* Copies up to `length` bytes; returns the count that was readable, or -errno when none was. */
static ssize_t read_memory(uint32_t pid, uint64_t address, void *buffer, size_t length)
{
	struct iovec local = { buffer, length };
	struct iovec remote = { (void *)(uintptr_t)address, length };
	ssize_t count = process_vm_readv((pid_t)pid, &local, 1, &remote, 1, 0);

	return count < 0 ? -errno : count;
}

/*
 * Copies a NUL-terminated string without its NUL. Reads to the page's end at most at a
 * time: the next page need not be mapped. Returns its length; *ret_cut is 1 when no NUL
 * came within `limit`.
 */
static ssize_t read_string(uint32_t pid, uint64_t address, char *buffer, size_t limit, uint16_t *ret_cut)
{
	size_t length = 0;

	while (length < limit) {
		size_t chunk = PAGE - ((address + length) & (PAGE - 1));
		ssize_t count;
		char *end;

		if (chunk > limit - length)
			chunk = limit - length;
		/* Most strings are short: do not copy a page for them. */
		if (length == 0 && chunk > 256)
			chunk = 256;
		count = read_memory(pid, address + length, buffer + length, chunk);
		if (count <= 0)
			return count < 0 ? count : -EFAULT;
		end = memchr(buffer + length, 0, (size_t)count);
		if (end)
			return end - buffer;
		length += (size_t)count;
	}
	*ret_cut = 1;
	return (ssize_t)length;
}

/* Copies a NULL-terminated vector of strings, each with its NUL. Returns the bytes written. */
static ssize_t read_strings(uint32_t pid, uint64_t address, char *buffer, size_t limit, uint16_t *ret_cut)
{
	size_t length = 0;
	uint64_t pointers[32];
	unsigned int held = 0;

	if (address == 0)
		return 0;
	for (unsigned int index = 0; index < MAX_STRINGS; index++) {
		uint16_t cut = 0;
		ssize_t count;

		if (index % 32 == 0) {
			/* A partial read is fine: the vector may end just before an unmapped page. */
			count = read_memory(pid, address + (uint64_t)index * 8, pointers, sizeof(pointers));
			if (count < 8)
				return count < 0 ? count : -EFAULT;
			held = (unsigned int)count / 8;
		}
		if (index % 32 >= held)
			return -EFAULT;
		if (pointers[index % 32] == 0)
			return (ssize_t)length;
		if (limit - length < 2)
			break;
		count = read_string(pid, pointers[index % 32], buffer + length, limit - length - 1, &cut);
		if (count < 0)
			return count;
		length += (size_t)count;
		buffer[length++] = 0;
		if (cut)
			break;
	}
	*ret_cut = 1;
	return (ssize_t)length;
}

int copy_arguments(struct engine *engine, struct sg_record *record, int listener_fd)
{
	const struct sg_shape *shapes;

	if (record->nr < 0 || record->nr >= SHAPED_CALLS)
		return 0;
	shapes = engine->shapes[record->nr];
	if (shapes[0].kind == 0)
		return 0;
	for (int i = 0; i < SG_SHAPES_PER_CALL && shapes[i].kind; i++) {
		struct sg_blob *blob = (struct sg_blob *)((uint8_t *)record + record->size);
		char *bytes = (char *)(blob + 1);
		uint64_t address = record->args[shapes[i].arg];
		ssize_t count;

		blob->arg = shapes[i].arg;
		blob->cut = 0;
		switch (shapes[i].kind) {
		case SG_SHAPE_STRING:
			count = read_string(record->pid, address, bytes, shapes[i].limit, &blob->cut);
			break;
		case SG_SHAPE_BYTES: {
			uint64_t wanted = record->args[shapes[i].length_arg];
			uint32_t length = wanted > shapes[i].limit ? shapes[i].limit : (uint32_t)wanted;

			blob->cut = wanted > shapes[i].limit;
			count = length == 0 ? 0 : read_memory(record->pid, address, bytes, length);
			/* Half an address is no address. */
			if (count >= 0 && count < (ssize_t)length)
				count = -EFAULT;
			break;
		}
		case SG_SHAPE_BLOCK:
			count = address == 0 ? 0 : read_memory(record->pid, address, bytes, shapes[i].limit);
			if (count > 0 && count < (ssize_t)shapes[i].limit)
				count = -EFAULT;
			break;
		case SG_SHAPE_STRINGS:
			count = read_strings(record->pid, address, bytes, shapes[i].limit, &blob->cut);
			break;
		default:
			count = -EINVAL;
			break;
		}
		blob->length = (int32_t)count;
		record->size += (uint32_t)sizeof(*blob) + (count > 0 ? ((uint32_t)count + 7u) & ~7u : 0);
		record->blobs++;
	}
	/* The pid may have been reused while we read: then that was somebody else's memory. */
	if (ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &record->id) < 0)
		return -ENOENT;
	return 0;
}
