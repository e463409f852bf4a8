// SPDX-License-Identifier: Apache-2.0
/* Ways to use memory. Each takes a number of MiB and, with "hold", keeps what it has and sleeps. */
#include "act.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define PAGE 4096u

static size_t wanted(char **arguments)
{
	return strtoul(arguments[0], NULL, 10) * MIB;
}

static int done(int count, char **arguments)
{
	if (count > 1 && strcmp(arguments[1], "hold") == 0)
		for (;;)
			pause();
	return report(0);
}

static void touch(char *at, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		((volatile char *)at)[i] = 1;
}

static int use_mapping(int count, char **arguments, int flags, int fd)
{
	char *at = mmap(NULL, wanted(arguments), PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		return report(-1);
	touch(at, wanted(arguments));
	return done(count, arguments);
}

static int anonymous(int count, char **arguments)
{
	return use_mapping(count, arguments, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static int shared(int count, char **arguments)
{
	return use_mapping(count, arguments, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static int zero(int count, char **arguments)
{
	return use_mapping(count, arguments, MAP_PRIVATE, open("/dev/zero", O_RDWR));
}

static int zero_shared(int count, char **arguments)
{
	return use_mapping(count, arguments, MAP_SHARED, open("/dev/zero", O_RDWR));
}

/* Pages that stay although no process has them mapped any more. */
static int unmapped(int count, char **arguments)
{
	size_t size = wanted(arguments);
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return report(-1);
	for (size_t i = 0; i < size; i += MIB) {
		touch(at + i, MIB);
		if (madvise(at + i, MIB, MADV_DONTNEED) < 0)
			return report(-1);
	}
	return done(count, arguments);
}

/* Likewise: the one who wrote them is gone. */
static int exited_writer(int count, char **arguments)
{
	size_t size = wanted(arguments);
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (at == MAP_FAILED || (pid = fork()) < 0)
		return report(-1);
	if (pid == 0) {
		touch(at, size);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return done(count, arguments);
}

static int grow(size_t left)
{
	volatile char room[MIB];

	touch((char *)room, sizeof(room));
	return left <= MIB ? room[0] : grow(left - MIB) + room[1];
}

static int stack(int count, char **arguments)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_STACK, &limit) < 0)
		return report(-1);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_STACK, &limit) < 0)
		return report(-1);
	grow(wanted(arguments));
	return done(count, arguments);
}

/* Private pages of a file, written. */
static int private_file(int count, char **arguments)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	size_t size = 512u << 10; /* what the guest itself has at least */

	if (fd < 0)
		fd = open(arguments[count - 1], O_RDONLY);
	if (fd < 0)
		return report(-1);
	for (size_t used = 0; used < wanted(arguments); used += size) {
		char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		if (at == MAP_FAILED)
			return report(-1);
		touch(at, size);
	}
	return done(count, arguments);
}

/* Many processes, each with a little: what they had from their parent is written, so that they have it alone. */
static int copies(int count, char **arguments)
{
	const size_t each = 16 * MIB;
	char *at = mmap(NULL, each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ready[2];
	char byte;

	if (at == MAP_FAILED || pipe(ready) < 0)
		return report(-1);
	touch(at, each);
	for (size_t used = each; used < wanted(arguments); used += each) {
		pid_t pid = fork();

		if (pid < 0)
			return report(-1);
		if (pid == 0) {
			setsid();
			touch(at, each);
			(void)!write(ready[1], "", 1);
			pause();
			_exit(0);
		}
		(void)!read(ready[0], &byte, 1);
	}
	return done(count, arguments);
}

/* A process that left its session and its parent. */
static int daemon_memory(int count, char **arguments)
{
	pid_t pid = fork();

	if (pid < 0)
		return report(-1);
	if (pid == 0) {
		setsid();
		if (fork() > 0)
			_exit(0);
		anonymous(count, arguments);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return done(count, arguments);
}

/* Pages of a file in memory that nobody maps. */
static int memory_file(int count, char **arguments)
{
	static char block[MIB];
	int fd = (int)syscall(SYS_memfd_create, "guest", 0);

	if (fd < 0)
		return report(-1);
	memset(block, 1, sizeof(block));
	for (size_t used = 0; used < wanted(arguments); used += MIB)
		if (write(fd, block, MIB) < 0)
			return report(-1);
	return done(count, arguments);
}

/* Addresses without pages, as runtimes reserve them. */
static int reserve(int count, char **arguments)
{
	void *at = mmap(NULL, wanted(arguments), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? report(-1) : done(count, arguments);
}

const struct act memory_acts[] = {
	{ "memory-anonymous", 1, anonymous },
	{ "memory-shared", 1, shared },
	{ "memory-zero", 1, zero },
	{ "memory-zero-shared", 1, zero_shared },
	{ "memory-unmapped", 1, unmapped },
	{ "memory-exited-writer", 1, exited_writer },
	{ "memory-stack", 1, stack },
	{ "memory-private-file", 1, private_file },
	{ "memory-copies", 1, copies },
	{ "memory-daemon", 1, daemon_memory },
	{ "memory-file", 1, memory_file },
	{ "memory-reserve", 1, reserve },
	{ 0 },
};
