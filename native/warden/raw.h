/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that touch no memory but their arguments. From the keeper's start until its own exec a launching
 * process shares memory with the keeper, also the place of errno: it makes these calls only.
 */
#ifndef SANDGATE_RAW_H
#define SANDGATE_RAW_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* Returns what the kernel does: a negative errno on failure. */
static inline long raw_call(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#else
#error "no system call instruction known for this machine"
#endif
}

static inline int raw_open(const char *path, int flags)
{
	return (int)raw_call(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0);
}

/* Closes *fd unless it is negative, and makes it -1. */
static inline void raw_close(int *fd)
{
	if (*fd >= 0)
		raw_call(SYS_close, *fd, 0, 0, 0, 0);
	*fd = -1;
}
#define cleanup_raw_close __attribute__((cleanup(raw_close)))

static inline ssize_t raw_write(int fd, const void *bytes, size_t size)
{
	return raw_call(SYS_write, fd, (long)bytes, (long)size, 0, 0);
}

static inline ssize_t raw_read(int fd, void *bytes, size_t size)
{
	return raw_call(SYS_read, fd, (long)bytes, (long)size, 0, 0);
}

static inline int raw_dup3(int fd, int wanted, int flags)
{
	return (int)raw_call(SYS_dup3, fd, wanted, flags, 0, 0);
}

/* Either limit may be NULL. */
static inline int raw_limit(int resource, const struct rlimit *limit, struct rlimit *ret_old)
{
	return (int)raw_call(SYS_prlimit64, 0, resource, (long)limit, (long)ret_old, 0);
}

#endif
