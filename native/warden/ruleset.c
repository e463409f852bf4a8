// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/syscall.h>

#include "../kernel.h"
#include "raw.h"
#include "ruleset.h"

#define TYPE_MASK 0170000u
#define TYPE_DIRECTORY 0040000u

static void set_subject(struct subject *subject, const char *name)
{
	subject->bytes = name;
	subject->length = strlen(name);
}

static void copy_path(const struct sg_path_rule *rule, char ret_path[PATH_MAX])
{
	memcpy(ret_path, rule + 1, rule->length);
	ret_path[rule->length] = '\0';
}

static bool is_absence(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -EACCES;
}

/* Mounts have numbers that are not used again since Linux 6.8; before that, the inode tells enough. */
static int identify(int directory_fd, const char *path, int more_flags, struct path_identity *ret_identity,
		    uint32_t *ret_mode)
{
	const int flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | more_flags;
	struct statx status;
	int r = (int)raw_call(SYS_statx, directory_fd, (long)path, flags,
			      STATX_TYPE | STATX_INO | STATX_MNT_ID | STATX_MNT_ID_UNIQUE, (long)&status);

	if (r < 0)
		return r;
	ret_identity->mount = status.stx_mnt_id;
	ret_identity->inode = status.stx_ino;
	ret_identity->device_major = status.stx_dev_major;
	ret_identity->device_minor = status.stx_dev_minor;
	*ret_mode = status.stx_mode;
	return 0;
}

static bool is_exact(const struct sg_path_rule *rule)
{
	return rule->flags & SG_PATH_EXACT;
}

static bool is_other(const struct sg_path_rule *rule, const struct path_identity *found)
{
	return is_exact(rule) &&
	       (rule->inode != found->inode || rule->device_major != found->device_major ||
		rule->device_minor != found->device_minor);
}

int identify_file(int directory_fd, const char *name, struct path_identity *ret_identity)
{
	uint32_t mode;

	return identify(directory_fd, name, AT_SYMLINK_NOFOLLOW, ret_identity, &mode);
}

int identify_rule(const struct sg_path_rule *rule, struct path_identity *ret_identity)
{
	struct path_identity found;
	char path[PATH_MAX];
	uint32_t mode;
	int r;

	copy_path(rule, path);
	r = identify(AT_FDCWD, path, is_exact(rule) ? AT_SYMLINK_NOFOLLOW : 0, &found, &mode);
	if (r < 0)
		return r;
	if (is_other(rule, &found))
		return -ESTALE;
	*ret_identity = found;
	return 0;
}

/*
 * Grants rule->access beneath its path in ruleset_fd.
 * Returns 0, or a negative errno with the ruleset unchanged. landlock(7), ABI 1.
 */
static int add_path_rule(int ruleset_fd, const struct sg_path_rule *rule, struct path_identity *ret_identity)
{
	struct ll_path_beneath beneath = {.allowed_access = rule->access};
	cleanup_raw_close int parent_fd = -1;
	char path[PATH_MAX];
	uint32_t mode;
	int r;

	copy_path(rule, path);
	*ret_identity = (struct path_identity){0};
	parent_fd = raw_open(path, O_PATH | O_CLOEXEC | (is_exact(rule) ? O_NOFOLLOW : 0));
	if (parent_fd < 0)
		return (rule->flags & SG_PATH_OPTIONAL) && is_absence(parent_fd) ? 0 : parent_fd;
	r = identify(parent_fd, "", 0, ret_identity, &mode);
	if (r < 0)
		return r;
	if (is_other(rule, ret_identity))
		return rule->flags & SG_PATH_OPTIONAL ? 0 : -ESTALE;
	if ((mode & TYPE_MASK) != TYPE_DIRECTORY)
		beneath.allowed_access &= LL_FS_ON_FILES;
	if (beneath.allowed_access == 0)
		return 0;
	beneath.parent_fd = parent_fd;
	return (int)raw_call(NR_landlock_add_rule, ruleset_fd, LL_RULE_PATH_BENEATH, (long)&beneath, 0, 0);
}

int make_ruleset(const struct sg_ruleset *ruleset, struct path_identity *identities, struct subject *ret_subject)
{
	struct ll_ruleset attributes = {.handled_access_fs = ruleset->handled_fs,
					.handled_access_net = ruleset->handled_net,
					.scoped = ruleset->scoped};
	const struct sg_path_rule *rule = (const void *)(ruleset + 1);
	const struct sg_port_rule *port_rule;
	cleanup_raw_close int ruleset_fd = -1;
	int made, r;

	set_subject(ret_subject, "ruleset");
	ruleset_fd = (int)raw_call(NR_landlock_create_ruleset, (long)&attributes, sizeof(attributes), 0, 0, 0);
	if (ruleset_fd < 0)
		return ruleset_fd;
	for (uint32_t i = 0; i < ruleset->path_count; i++, rule = next_path_rule(rule)) {
		struct path_identity identity;

		ret_subject->bytes = (const char *)(rule + 1);
		ret_subject->length = rule->length;
		r = add_path_rule(ruleset_fd, rule, &identity);
		if (r < 0)
			return r;
		if (identities != NULL)
			identities[i] = identity;
	}
	set_subject(ret_subject, "port");
	port_rule = (const void *)rule;
	for (uint32_t i = 0; i < ruleset->port_count; i++) {
		struct ll_net_port port = {.allowed_access = port_rule[i].access, .port = port_rule[i].port};

		r = (int)raw_call(NR_landlock_add_rule, ruleset_fd, LL_RULE_NET_PORT, (long)&port, 0, 0);
		if (r < 0)
			return r;
	}
	made = ruleset_fd;
	ruleset_fd = -1;
	return made;
}

bool paths_unchanged(const struct sg_ruleset *ruleset, const struct path_identity *identities)
{
	const struct sg_path_rule *rule = (const void *)(ruleset + 1);

	for (uint32_t i = 0; i < ruleset->path_count; i++, rule = next_path_rule(rule)) {
		struct path_identity now = {0};
		char path[PATH_MAX];
		uint32_t mode;
		int r;

		copy_path(rule, path);
		r = identify(AT_FDCWD, path, is_exact(rule) ? AT_SYMLINK_NOFOLLOW : 0, &now, &mode);
		if (r < 0 && !is_absence(r))
			return false;
		if (now.mount != identities[i].mount || now.inode != identities[i].inode ||
		    now.device_major != identities[i].device_major ||
		    now.device_minor != identities[i].device_minor)
			return false;
	}
	return true;
}

int enter_ruleset(int ruleset_fd, struct subject *ret_subject)
{
	set_subject(ret_subject, "restrict_self");
	return (int)raw_call(NR_landlock_restrict_self, ruleset_fd, 0, 0, 0, 0);
}
