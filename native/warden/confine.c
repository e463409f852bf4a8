// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "confine.h"
#include "raw.h"

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

		int r;

		if (plan->rlimits[i].resource == RLIMIT_NOFILE)
			continue;
		r = raw_limit((int)plan->rlimits[i].resource, &limit, NULL);
		if (r < 0)
			return r;
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

int install_filter(const struct plan *plan, int *ret_listener)
{
	struct sock_fprog program = {.len = (unsigned short)plan->filter_length,
				     .filter = (struct sock_filter *)plan->filter};
	long r;

	if (plan->filter_length == 0)
		return 0;
	if (plan->filter_length > BPF_MAXINSNS)
		return -E2BIG;
	r = raw_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan->head->filter_flags, (long)&program, 0, 0);
	if (r < 0)
		return (int)r;
	if (plan->head->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
		*ret_listener = (int)r;
	return 0;
}
