// SPDX-License-Identifier: Apache-2.0
/* Reads what a message to be sent is made of, piece by piece and only once it is wanted; and tells how it went. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine.h"

#define PARTS 1024 /* UIO_MAXIOV */

/* Copies exactly `size` bytes of the task's memory. Returns 0 or -errno. */
int sg_task_copy(uint32_t tid, uint64_t address, void *buffer, uint32_t size)
{
	struct iovec local = { buffer, size };
	struct iovec remote = { (void *)(uintptr_t)address, size };
	ssize_t count = size == 0 ? 0 : process_vm_readv((pid_t)tid, &local, 1, &remote, 1, 0);

	if (count < 0)
		return -errno;
	return count == (ssize_t)size ? 0 : -EFAULT;
}

/*
 * Copies up to `size` bytes of the task's scattered data, behind the first `skip`. *ret_total is how many there are
 * in all. Returns the count, or -errno: -EMSGSIZE for more than 1024 parts, -EINVAL for more bytes than a call takes.
 */
int sg_task_gather(uint32_t tid, uint64_t vector, uint64_t count, uint64_t skip, void *buffer, uint32_t size,
		   uint64_t *ret_total)
{
	struct iovec parts[PARTS], local = { buffer, size };
	uint64_t total = 0, wanted = size;
	unsigned int used = 0;
	ssize_t got;
	int r;

	if (count > PARTS)
		return -EMSGSIZE;
	r = sg_task_copy(tid, vector, parts, (uint32_t)(count * sizeof(parts[0])));
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < count; i++) {
		struct iovec part = parts[i];

		if (part.iov_len > INT_MAX - total)
			return -EINVAL;
		total += part.iov_len;
		if (skip >= part.iov_len) {
			skip -= part.iov_len;
			continue;
		}
		part.iov_base = (char *)part.iov_base + skip;
		part.iov_len -= skip;
		skip = 0;
		if (part.iov_len > wanted)
			part.iov_len = wanted;
		wanted -= part.iov_len;
		if (part.iov_len > 0)
			parts[used++] = part;
	}
	*ret_total = total;
	local.iov_len = size - wanted;
	if (local.iov_len == 0)
		return 0;
	got = process_vm_readv((pid_t)tid, &local, 1, parts, used, 0);
	if (got < 0)
		return -errno;
	return got == (ssize_t)local.iov_len ? (int)got : -EFAULT;
}

/*
 * Writes into the memory of thread `tid`, whose call `id` waits at the listener in `slot`: the memory is held open
 * while that is checked, so that it is nobody else's. Returns 0 or -errno, -ENOENT when nobody waits.
 */
int sg_engine_store(intptr_t handle, uint32_t slot, const uint64_t *id, uint32_t tid, uint64_t address,
		    const void *bytes, uint32_t size)
{
	char path[32];
	int fd, r = 0;

	snprintf(path, sizeof(path), "/proc/%u/mem", tid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (sg_engine_valid(handle, slot, id) != 1)
		r = -ENOENT;
	else if (pwrite(fd, bytes, size, (off_t)address) != (ssize_t)size)
		r = -EFAULT;
	close(fd);
	return r;
}
