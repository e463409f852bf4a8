// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <string.h>
#include <unistd.h>

#include "../kernel.h"
#include "plan.h"

/*
 * Untouched pages of these cost nothing. A nursery's child decodes under the sandbox's filter, where
 * asking for memory might be refused.
 */
static uint64_t contents[PLAN_LIMIT / sizeof(uint64_t)];
static char *pointers[PLAN_LIMIT / sizeof(char *)];
static char directory[PATH_MAX];

void touch_plan_memory(void)
{
	*(char *volatile *)pointers = NULL;
	*(volatile char *)directory = '\0';
}

bool is_plan(const struct sg_plan *head, size_t size)
{
	return size >= sizeof(*head) && head->magic == SG_PLAN_MAGIC;
}

static ssize_t read_at(int fd, void *buffer, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t got = pread(fd, (char *)buffer + done, size - done, offset + (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

bool plan_confines_signals(const struct sg_plan *head, size_t size, int memfd)
{
	struct sg_plan stored;
	struct sg_ruleset outer;

	if (head->flags & SG_PLAN_NO_LANDLOCK)
		return false;
	if (memfd >= 0) {
		if (read_at(memfd, &stored, sizeof(stored), 0) != (ssize_t)sizeof(stored) ||
		    stored.outer.length < sizeof(outer) ||
		    read_at(memfd, &outer, sizeof(outer), stored.outer.offset) != (ssize_t)sizeof(outer))
			return false;
	} else {
		if (head->outer.length < sizeof(outer) || head->outer.offset > size ||
		    size - head->outer.offset < sizeof(outer))
			return false;
		memcpy(&outer, (const char *)head + head->outer.offset, sizeof(outer));
	}
	return (outer.scoped & LL_SCOPE_SIGNAL) != 0;
}

/* Where a span is; NULL when it leaves the plan. */
static const void *locate(const struct sg_plan *head, size_t size, const struct sg_span *span)
{
	if (span->offset % 8 != 0 || span->offset > size || span->length > size - span->offset)
		return NULL;
	return (const char *)head + span->offset;
}

/* Fills pointers[*used …] with the strings of a span and a NULL. */
static int split_strings(const char *bytes, size_t length, size_t *used, char ***ret_strings)
{
	const size_t limit = sizeof(pointers) / sizeof(*pointers);
	char **first = &pointers[*used];

	if (length > 0 && bytes[length - 1] != '\0')
		return -EINVAL;
	for (size_t at = 0; at < length; at += strlen(bytes + at) + 1) {
		if (*used + 1 >= limit)
			return -E2BIG;
		pointers[(*used)++] = (char *)bytes + at;
	}
	if (*used >= limit)
		return -E2BIG;
	pointers[(*used)++] = NULL;
	*ret_strings = first;
	return 0;
}

const struct sg_path_rule *next_path_rule(const struct sg_path_rule *rule)
{
	return (const void *)((const char *)(rule + 1) + (rule->length + 7u) / 8 * 8);
}

/* Bytes of the rule at the start of `size` bytes, or -EINVAL when it leaves them. */
static ssize_t check_path_rule(const struct sg_path_rule *rule, size_t size)
{
	if (size < sizeof(*rule))
		return -EINVAL;
	size -= sizeof(*rule);
	if (rule->length == 0 || rule->length >= PATH_MAX || size < (rule->length + 7u) / 8 * 8)
		return -EINVAL;
	return (const char *)next_path_rule(rule) - (const char *)rule;
}

static int check_ruleset(const struct sg_ruleset *ruleset, size_t size)
{
	size_t at = sizeof(*ruleset);

	if (size < at)
		return -EINVAL;
	for (uint32_t i = 0; i < ruleset->path_count; i++) {
		ssize_t rule_size = check_path_rule((const void *)((const char *)ruleset + at), size - at);

		if (rule_size < 0)
			return (int)rule_size;
		at += (size_t)rule_size;
	}
	if ((size - at) / sizeof(struct sg_port_rule) < ruleset->port_count)
		return -EINVAL;
	return 0;
}

static int count_rules(const struct sg_path_rule *rules, size_t size, size_t *ret_count)
{
	size_t count = 0;

	for (size_t at = 0; at < size; count++) {
		ssize_t rule_size = check_path_rule((const void *)((const char *)rules + at), size - at);

		if (rule_size < 0)
			return (int)rule_size;
		at += (size_t)rule_size;
	}
	*ret_count = count;
	return 0;
}

static size_t padded(size_t size)
{
	return (size + 7u) / 8 * 8;
}

const char *mount_path(const struct sg_mount *step)
{
	return (const char *)(step + 1);
}

const char *mount_source(const struct sg_mount *step)
{
	return mount_path(step) + padded(step->path + 1u);
}

const char *mount_data(const struct sg_mount *step)
{
	return mount_source(step) + padded(step->source + 1u);
}

const struct sg_mount *next_mount(const struct sg_mount *step)
{
	return (const void *)(mount_data(step) + padded(step->data));
}

/* Returns the number of steps, or -EINVAL. */
static int count_mounts(const struct sg_mount *mounts, size_t size)
{
	const char *end = (const char *)mounts + size;
	int count = 0;

	for (const struct sg_mount *step = mounts; (const char *)step < end; step = next_mount(step)) {
		size_t left = (size_t)(end - (const char *)step);

		if (++count > SG_MAX_MOUNTS || left < sizeof(*step) || step->path >= PATH_MAX ||
		    step->source >= PATH_MAX || step->data > PLAN_LIMIT)
			return -EINVAL;
		if ((size_t)((const char *)next_mount(step) - (const char *)step) > left ||
		    mount_path(step)[step->path] != '\0' || mount_source(step)[step->source] != '\0' ||
		    strlen(mount_path(step)) != step->path || strlen(mount_source(step)) != step->source)
			return -EINVAL;
	}
	return count;
}

int load_plan(const struct sg_plan *head, size_t size, int memfd, struct plan *ret_plan)
{
	struct plan plan = {0};
	const void *argv, *envp, *search, *cwd, *rlimits, *outer, *inner, *filter, *denied, *mounts, *whole;
	size_t used = 0;
	int r;

	if (memfd >= 0) {
		ssize_t stored = read_at(memfd, contents, sizeof(contents), 0);

		if (stored < 0)
			return (int)stored;
		if ((size_t)stored == sizeof(contents))
			return -E2BIG;
		head = (const struct sg_plan *)contents;
		size = (size_t)stored;
	}
	if (!is_plan(head, size))
		return -EINVAL;

	argv = locate(head, size, &head->argv);
	envp = locate(head, size, &head->envp);
	search = locate(head, size, &head->search);
	cwd = locate(head, size, &head->cwd);
	rlimits = locate(head, size, &head->rlimits);
	outer = locate(head, size, &head->outer);
	inner = locate(head, size, &head->inner);
	filter = locate(head, size, &head->filter);
	denied = locate(head, size, &head->denied);
	mounts = locate(head, size, &head->mounts);
	whole = locate(head, size, &head->whole);
	if (!argv || !envp || !search || !cwd || !rlimits || !outer || !inner || !filter || !denied || !mounts ||
	    !whole)
		return -EINVAL;
	if (head->rlimits.length % sizeof(struct sg_rlimit) != 0 ||
	    head->filter.length % sizeof(struct sock_filter) != 0)
		return -EINVAL;

	r = split_strings(argv, head->argv.length, &used, &plan.argv);
	if (r == 0)
		r = split_strings(envp, head->envp.length, &used, &plan.envp);
	if (r == 0 && plan.argv[0] == NULL)
		r = -EINVAL;
	if (r == 0 && head->outer.length > 0)
		r = check_ruleset(outer, head->outer.length);
	if (r == 0 && head->inner.length > 0)
		r = check_ruleset(inner, head->inner.length);
	if (r == 0)
		r = count_rules(denied, head->denied.length, &plan.denied_count);
	if (r == 0)
		r = count_rules(whole, head->whole.length, &plan.whole_count);
	if (r == 0)
		r = count_mounts(mounts, head->mounts.length);
	if (r < 0)
		return r;

	if (head->cwd.length >= sizeof(directory))
		return -ENAMETOOLONG;
	memcpy(directory, cwd, head->cwd.length);
	directory[head->cwd.length] = '\0';
	plan.head = head;
	plan.cwd = head->cwd.length > 0 ? directory : "/";
	plan.search = search;
	plan.search_length = head->search.length;
	plan.rlimits = rlimits;
	plan.rlimit_count = head->rlimits.length / sizeof(struct sg_rlimit);
	plan.outer = head->outer.length > 0 ? outer : NULL;
	plan.outer_size = head->outer.length;
	plan.inner = head->inner.length > 0 ? inner : NULL;
	plan.inner_size = head->inner.length;
	plan.filter = filter;
	plan.denied = denied;
	plan.whole = whole;
	plan.filter_length = head->filter.length / sizeof(struct sock_filter);
	plan.mounts = r > 0 ? mounts : NULL;
	plan.mount_count = (size_t)r;
	*ret_plan = plan;
	return 0;
}
