// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "confine.h"
#include "wire.h"

static void set_subject(struct subject *subject, const char *name)
{
	subject->bytes = name;
	subject->length = strlen(name);
}

void open_files_limit(const struct plan *plan, struct rlimit *limit)
{
	for (size_t i = 0; i < plan->rlimit_count; i++) {
		if (plan->rlimits[i].resource != RLIMIT_NOFILE)
			continue;
		limit->rlim_cur = plan->rlimits[i].soft;
		limit->rlim_max = plan->rlimits[i].hard;
	}
}

int apply_limits(const struct plan *plan)
{
	for (size_t i = 0; i < plan->rlimit_count; i++) {
		struct rlimit limit = {.rlim_cur = plan->rlimits[i].soft, .rlim_max = plan->rlimits[i].hard};

		if (plan->rlimits[i].resource == RLIMIT_NOFILE)
			continue;
		if (setrlimit((__rlimit_resource_t)plan->rlimits[i].resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

int apply_ids(const struct plan *plan, struct subject *ret_subject)
{
	if (!(plan->head->flags & SG_PLAN_SET_IDS))
		return 0;
	set_subject(ret_subject, "keep_capabilities");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -errno;
	/* A user namespace that an ordinary user made has no right to set groups, and cannot gain any. */
	set_subject(ret_subject, "groups");
	if (!(plan->head->flags & SG_PLAN_NEW_USER_NAMESPACE) && setgroups(0, NULL) < 0)
		return -errno;
	set_subject(ret_subject, "gid");
	if (setresgid(plan->head->gid, plan->head->gid, plan->head->gid) < 0)
		return -errno;
	set_subject(ret_subject, "uid");
	if (setresuid(plan->head->uid, plan->head->uid, plan->head->uid) < 0)
		return -errno;
	return 0;
}

/* Makes all permitted capabilities effective: a change of uid took them out of effect. */
static int raise_effective(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		if (data[i].effective == data[i].permitted)
			continue;
		data[0].effective = data[0].permitted;
		data[1].effective = data[1].permitted;
		return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
	}
	return 0;
}

int drop_capabilities(bool may_keep_bounding, struct subject *ret_subject)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};
	int r;

	set_subject(ret_subject, "effective");
	r = raise_effective();
	if (r < 0)
		return r;
	set_subject(ret_subject, "bounding");
	for (int capability = 0;; capability++) {
		int present = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);

		if (present < 0)
			break;
		if (present == 0 || prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
			continue;
		if (errno == EPERM && may_keep_bounding)
			break;
		return -errno;
	}
	set_subject(ret_subject, "ambient");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	set_subject(ret_subject, "securebits");
	if (prctl(PR_SET_SECUREBITS, SECUREBITS_LOCKED, 0, 0, 0) < 0 && !(errno == EPERM && may_keep_bounding))
		return -errno;
	set_subject(ret_subject, "capset");
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	return 0;
}

/*
 * Grants rule->access beneath its path in ruleset_fd.
 * Returns 0, or a negative errno with the ruleset unchanged. landlock(7), ABI 1.
 */
static int add_path_rule(int ruleset_fd, const struct sg_path_rule *rule)
{
	struct ll_path_beneath beneath = {.allowed_access = rule->access};
	cleanup_close int parent_fd = -1;
	char path[PATH_MAX];
	struct stat status;

	memcpy(path, rule + 1, rule->length);
	path[rule->length] = '\0';
	parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (parent_fd < 0) {
		if ((rule->flags & SG_PATH_OPTIONAL) &&
		    (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
			return 0;
		return -errno;
	}
	if (fstat(parent_fd, &status) < 0)
		return -errno;
	if (!S_ISDIR(status.st_mode))
		beneath.allowed_access &= LL_FS_ON_FILES;
	if (beneath.allowed_access == 0)
		return 0;
	beneath.parent_fd = parent_fd;
	if (syscall(NR_landlock_add_rule, ruleset_fd, LL_RULE_PATH_BENEATH, &beneath, 0) < 0)
		return -errno;
	return 0;
}

int make_ruleset(const struct sg_ruleset *ruleset, struct subject *ret_subject)
{
	struct ll_ruleset attributes = {.handled_access_fs = ruleset->handled_fs,
					.handled_access_net = ruleset->handled_net,
					.scoped = ruleset->scoped};
	const char *at = (const char *)(ruleset + 1);
	cleanup_close int ruleset_fd = -1;
	int made;

	set_subject(ret_subject, "ruleset");
	ruleset_fd = (int)syscall(NR_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (ruleset_fd < 0)
		return -errno;
	for (uint32_t i = 0; i < ruleset->path_count; i++) {
		const struct sg_path_rule *rule = (const void *)at;
		int r;

		ret_subject->bytes = (const char *)(rule + 1);
		ret_subject->length = rule->length;
		r = add_path_rule(ruleset_fd, rule);
		if (r < 0)
			return r;
		at += sizeof(*rule) + (rule->length + 7u) / 8 * 8;
	}
	set_subject(ret_subject, "port");
	for (uint32_t i = 0; i < ruleset->port_count; i++) {
		const struct sg_port_rule *rule = (const void *)at;
		struct ll_net_port port = {.allowed_access = rule->access, .port = rule->port};

		if (syscall(NR_landlock_add_rule, ruleset_fd, LL_RULE_NET_PORT, &port, 0) < 0)
			return -errno;
		at += sizeof(*rule);
	}
	made = ruleset_fd;
	ruleset_fd = -1;
	return made;
}

int enter_ruleset(int ruleset_fd, struct subject *ret_subject)
{
	set_subject(ret_subject, "restrict_self");
	if (syscall(NR_landlock_restrict_self, ruleset_fd, 0) < 0)
		return -errno;
	return 0;
}

int install_filter(const struct plan *plan, int *ret_listener)
{
	struct sock_fprog program = {.len = (unsigned short)plan->filter_length,
				     .filter = (struct sock_filter *)plan->filter};
	long r;

	if (plan->filter_length == 0)
		return 0;
	if (plan->filter_length > BPF_MAXINSNS)
		return -E2BIG;
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan->head->filter_flags, &program);
	if (r < 0)
		return -errno;
	if (plan->head->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
		*ret_listener = (int)r;
	return 0;
}
