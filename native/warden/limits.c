// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "limits.h"
#include "wire.h"

#define LOOK_MS 50
#define LOOK_AT_TASKS_MS 10 /* where nothing else stops them */
#define LOOK_AT_SHARE_MS 20
#define BURST_US 100000 /* that a program may save up, of a whole processor's time */
#define PAGE ((uint64_t)4096)
#define BLIND_LIMIT_US 1000000 /* CPU time of one look: beyond, a sandbox hides in the number of its mappings */

static uint64_t cpu_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static FILE *open_of(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

/* One line of maps. Returns whether it is a shared mapping of an object without a file. */
static bool parse_mapping(const char *line, uint64_t memory_device, uint64_t *ret_inode, uint64_t *ret_end)
{
	unsigned long long start, end, offset, inode;
	unsigned int device_major, device_minor;
	char rights[5];

	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu", &start, &end, rights, &offset, &device_major, &device_minor,
		   &inode) != 7)
		return false;
	if (inode == 0 || makedev(device_major, device_minor) != memory_device)
		return false;
	*ret_inode = inode;
	*ret_end = offset + (end - start);
	return true;
}

/* The device of shared anonymous memory, from a mapping of our own. */
static uint64_t find_memory_device(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int device_major, device_minor;
	uint64_t device = 0;
	char line[512];

	while (page != MAP_FAILED && maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		if (strtoull(line, NULL, 16) == (uintptr_t)page &&
		    sscanf(line, "%*s %*s %*s %x:%x", &device_major, &device_minor) == 2)
			device = makedev(device_major, device_minor);
	if (maps != NULL)
		fclose(maps);
	if (page != MAP_FAILED)
		munmap(page, PAGE);
	return device;
}

static pid_t own_pid(void)
{
	char link[16];
	ssize_t length = readlink("/proc/self", link, sizeof(link) - 1);

	if (length <= 0)
		return 0;
	link[length] = '\0';
	return (pid_t)atoi(link);
}

bool start_limits(struct limits *limits, const struct sg_plan *plan)
{
	*limits = (struct limits){.memory_bytes = plan->memory_bytes, .cpu_time_us = plan->cpu_time_us,
				   .max_tasks = plan->max_tasks,
				   .cpu_millis = plan->cpu_millis,
				   .tasks_kept = plan->tasks_kept != 0};
	if (limits->memory_bytes == 0 && limits->cpu_time_us == 0 && limits->max_tasks == 0 &&
	    limits->cpu_millis == 0)
		return false;
	limits->self = own_pid();
	limits->memory_device = find_memory_device();
	limits->blind = limits->self == 0 || limits->memory_device == 0;
	return true;
}

static int note_object(struct limits *limits, uint64_t inode, uint64_t end)
{
	struct shared_object *object;

	for (size_t i = 0; i < limits->object_count; i++) {
		object = &limits->objects[i];
		if (object->inode != inode)
			continue;
		object->seen = true;
		if (end > object->bytes)
			object->bytes = end;
		return 0;
	}
	if (limits->object_count == limits->object_room) {
		size_t room = limits->object_room == 0 ? 64 : limits->object_room * 2;
		struct shared_object *objects = realloc(limits->objects, room * sizeof(*objects));

		if (objects == NULL)
			return -ENOMEM;
		limits->objects = objects;
		limits->object_room = room;
	}
	limits->objects[limits->object_count++] = (struct shared_object){.inode = inode, .bytes = end, .seen = true};
	return 0;
}

/* Bytes of shared anonymous objects that any member maps a part of. */
static int shared_memory(struct limits *limits, uint64_t *ret_bytes)
{
	size_t kept = 0;
	uint64_t bytes = 0;
	int r = 0;

	for (size_t i = 0; i < limits->object_count; i++)
		limits->objects[i].seen = false;
	for (size_t i = 0; r == 0 && i < limits->members.count; i++) {
		FILE *maps = open_of(limits->members.list[i].pid, "maps");
		char line[512];
		uint64_t inode, end;

		while (r == 0 && maps != NULL && fgets(line, sizeof(line), maps) != NULL)
			if (parse_mapping(line, limits->memory_device, &inode, &end))
				r = note_object(limits, inode, end);
		if (maps != NULL)
			fclose(maps);
	}
	for (size_t i = 0; i < limits->object_count; i++) {
		if (!limits->objects[i].seen)
			continue;
		bytes += limits->objects[i].bytes;
		limits->objects[kept++] = limits->objects[i];
	}
	limits->object_count = kept;
	*ret_bytes = bytes;
	return r;
}

/* Resident pages, whoever else has them: never less than what counts of them. */
static uint64_t resident_memory(pid_t pid)
{
	FILE *statm = open_of(pid, "statm");
	unsigned long long pages = 0;

	if (statm == NULL)
		return 0;
	if (fscanf(statm, "%*u %llu", &pages) != 1)
		pages = 0;
	fclose(statm);
	return pages * PAGE;
}

/* The process's part of its anonymous pages; its resident memory where that is not to be seen. */
static uint64_t private_memory(pid_t pid)
{
	FILE *rollup = open_of(pid, "smaps_rollup");
	unsigned long long kib, sum = 0;
	bool found = false;
	char line[256];

	while (rollup != NULL && fgets(line, sizeof(line), rollup) != NULL) {
		if (sscanf(line, "Pss_Anon: %llu kB", &kib) == 1 || sscanf(line, "SwapPss: %llu kB", &kib) == 1) {
			sum += kib * 1024;
			found = true;
		}
	}
	if (rollup != NULL)
		fclose(rollup);
	return found ? sum : resident_memory(pid);
}

static int look_at_memory(struct limits *limits, uint64_t *ret_bytes)
{
	uint64_t shared, bytes;
	int r = shared_memory(limits, &shared);

	bytes = shared;
	for (size_t i = 0; i < limits->members.count; i++)
		bytes += resident_memory(limits->members.list[i].pid);
	/* The exact figure costs a walk over all pages, and is needed only where the simple one might be too large. */
	if (bytes > limits->memory_bytes) {
		bytes = shared;
		for (size_t i = 0; i < limits->members.count; i++)
			bytes += private_memory(limits->members.list[i].pid);
	}
	*ret_bytes = bytes;
	return r;
}

/* What members were seen to use, those included whose parents ignore their ends. */
static void add_seen_time(struct limits *limits, const struct member *before, size_t before_count)
{
	size_t at = 0;

	for (size_t i = 0; i < limits->members.count; i++) {
		const struct member *member = &limits->members.list[i];
		uint64_t known = 0;

		while (at < before_count && before[at].pid < member->pid)
			at++;
		if (at < before_count && before[at].pid == member->pid &&
		    before[at].start_ticks == member->start_ticks)
			known = before[at].own_ticks;
		limits->seen_ticks += member->own_ticks - (known < member->own_ticks ? known : member->own_ticks);
	}
}

static uint64_t look_at_time(struct limits *limits, const struct member *before, size_t before_count)
{
	const uint64_t tick_us = 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	struct rusage ended;
	uint64_t ticks = 0, reaped_us, counted_us;

	add_seen_time(limits, before, before_count);
	for (size_t i = 0; i < limits->members.count; i++)
		ticks += limits->members.list[i].own_ticks + limits->members.list[i].children_ticks;
	getrusage(RUSAGE_CHILDREN, &ended);
	reaped_us = (uint64_t)(ended.ru_utime.tv_sec + ended.ru_stime.tv_sec) * 1000000u +
		    (uint64_t)(ended.ru_utime.tv_usec + ended.ru_stime.tv_usec);
	counted_us = reaped_us + ticks * tick_us;
	return counted_us > limits->seen_ticks * tick_us ? counted_us : limits->seen_ticks * tick_us;
}

/* Tells once that there are as many as there may be, until there are fewer. */
static enum sg_limit look_at_tasks(struct limits *limits)
{
	uint32_t tasks = limits->max_tasks > 0 ? count_tasks(&limits->members, limits->self) : 0;
	bool was_full = limits->tasks_full;

	if (limits->max_tasks > 0 && !limits->tasks_kept)
		return tasks > limits->max_tasks ? SG_LIMIT_TASKS : SG_LIMIT_NONE;
	limits->tasks_full = limits->max_tasks > 0 && tasks >= limits->max_tasks;
	return limits->tasks_full && !was_full ? SG_LIMIT_TASKS_FULL : SG_LIMIT_NONE;
}

/* Credit grows with the time and is used by what runs. Says when all must stop and when they may go on. */
static enum sg_limit look_at_share(struct limits *limits)
{
	uint64_t now_ns = monotonic_ns();
	int64_t burst_us = (int64_t)BURST_US * limits->cpu_millis / 1000;
	uint64_t used_us = limits->cpu_us - limits->charged_us;
	bool was_stopped = limits->stopped;

	if (limits->cpu_millis == 0)
		return SG_LIMIT_NONE;
	if (limits->credited_ns != 0)
		limits->credit_us += (int64_t)((now_ns - limits->credited_ns) / 1000u * limits->cpu_millis / 1000u);
	limits->credited_ns = now_ns;
	limits->credit_us -= (int64_t)used_us;
	limits->charged_us = limits->cpu_us;
	if (limits->credit_us > burst_us)
		limits->credit_us = burst_us;
	/* What began to run while all were being stopped is found by its use: it is told again. */
	if (limits->credit_us < 0) {
		limits->stopped = true;
		return was_stopped && used_us == 0 ? SG_LIMIT_NONE : SG_LIMIT_SHARE_USED;
	}
	limits->stopped = false;
	return was_stopped ? SG_LIMIT_SHARE_FREE : SG_LIMIT_NONE;
}

enum sg_limit look_at_limits(struct limits *limits, unsigned int *ret_wait_ms)
{
	const uint64_t start_ns = monotonic_ns(), start_cpu_us = cpu_clock_us();
	size_t before_count = limits->members.count;
	struct member *before = NULL;
	uint64_t bytes = 0, passed_ms, pause_ms, cpu_us;
	enum sg_limit reached;
	int r;

	if (limits->blind)
		return SG_LIMIT_UNSEEN;
	if (before_count > 0) {
		before = malloc(before_count * sizeof(*before));
		if (before == NULL)
			return SG_LIMIT_UNSEEN;
		memcpy(before, limits->members.list, before_count * sizeof(*before));
	}
	r = list_members(limits->self, &limits->members);
	cpu_us = look_at_time(limits, before, before_count);
	free(before);
	if (cpu_us > limits->cpu_us)
		limits->cpu_us = cpu_us;
	if (r == 0 && limits->memory_bytes > 0)
		r = look_at_memory(limits, &bytes);
	if (bytes > limits->peak_memory_bytes)
		limits->peak_memory_bytes = bytes;
	/* Looking must not take more than half of the time. */
	passed_ms = (monotonic_ns() - start_ns) / 1000000u;
	pause_ms = limits->max_tasks > 0 && !limits->tasks_kept ? LOOK_AT_TASKS_MS
		   : limits->cpu_millis > 0			? LOOK_AT_SHARE_MS
								: LOOK_MS;
	*ret_wait_ms = (unsigned int)(passed_ms > pause_ms ? passed_ms : pause_ms);
	if (limits->memory_bytes > 0 && bytes > limits->memory_bytes)
		return SG_LIMIT_MEMORY;
	if (limits->cpu_time_us > 0 && limits->cpu_us > limits->cpu_time_us)
		return SG_LIMIT_CPU_TIME;
	if (r < 0 || cpu_clock_us() - start_cpu_us > BLIND_LIMIT_US)
		return SG_LIMIT_UNSEEN;
	reached = look_at_tasks(limits);
	return reached != SG_LIMIT_NONE ? reached : look_at_share(limits);
}
