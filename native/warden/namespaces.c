// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../kernel.h"
#include "namespaces.h"
#include "wire.h"

static void set_subject(struct subject *subject, const char *name)
{
	subject->bytes = name;
	subject->length = strlen(name);
}

static int write_file(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

/* user_namespaces(7): a process may map its own id for itself once setgroups is denied. */
int map_ids(const struct launch_setup *setup, struct subject *ret_subject)
{
	static const char *const files[] = {"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map"};
	const struct sg_plan *plan = setup->plan;
	bool chosen = plan->flags & SG_PLAN_SET_IDS;
	char text[3][48];
	int r = 0;

	snprintf(text[0], sizeof(text[0]), "deny");
	snprintf(text[1], sizeof(text[1]), "%u %u 1", chosen ? plan->uid : setup->uid, setup->uid);
	snprintf(text[2], sizeof(text[2]), "%u %u 1", chosen ? plan->gid : setup->gid, setup->gid);
	/* These files belong to root while the process is not dumpable. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	for (int i = 0; i < 3 && r == 0; i++) {
		set_subject(ret_subject, files[i]);
		r = write_file(files[i], text[i]);
	}
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return r;
}

int enter_namespaces(const struct launch_setup *setup, const struct plan *plan, struct subject *ret_subject)
{
	struct mount_attributes private = {.propagation = MS_PRIVATE};
	uint32_t flags = plan->head->flags;
	bool new_user = (flags & SG_PLAN_NEW_USER_NAMESPACE) && !(flags & SG_PLAN_NEW_PID_NAMESPACE);
	int r;

	set_subject(ret_subject, new_user ? "user and mount namespace" : "mount namespace");
	if (unshare((new_user ? CLONE_NEWUSER : 0) | (flags & SG_PLAN_NEW_MOUNT_NAMESPACE ? CLONE_NEWNS : 0)) < 0)
		return -errno;
	if (new_user) {
		r = map_ids(setup, ret_subject);
		if (r < 0)
			return r;
	}
	if (!(flags & SG_PLAN_NEW_MOUNT_NAMESPACE))
		return 0;
	set_subject(ret_subject, "private mounts");
	return syscall(NR_mount_setattr, AT_FDCWD, "/", TREE_RECURSIVE, &private, sizeof(private)) < 0 ? -errno : 0;
}
