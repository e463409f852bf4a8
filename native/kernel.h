/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel constants that installed headers may be too old to have. Values from the UAPI headers of Linux 6.18. */
#ifndef SANDGATE_KERNEL_H
#define SANDGATE_KERNEL_H

#include <linux/seccomp.h>
#include <stdint.h>

/* seccomp(2), seccomp_unotify(2) */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND /* 5.14 */
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP /* 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

/* pidfd_open(2) */
#ifndef PIDFD_THREAD /* 6.9 */
#define PIDFD_THREAD O_EXCL
#endif

/* landlock(7), ABI 1 to 7 */
#define LL_FS_EXECUTE (1ull << 0)
#define LL_FS_WRITE_FILE (1ull << 1)
#define LL_FS_READ_FILE (1ull << 2)
#define LL_FS_READ_DIR (1ull << 3)
#define LL_FS_REMOVE_DIR (1ull << 4)
#define LL_FS_REMOVE_FILE (1ull << 5)
#define LL_FS_MAKE_DIR (1ull << 7)
#define LL_FS_MAKE_REG (1ull << 8)
#define LL_FS_MAKE_SOCK (1ull << 9)
#define LL_FS_MAKE_FIFO (1ull << 10)
#define LL_FS_MAKE_SYM (1ull << 12)
#define LL_FS_REFER (1ull << 13)     /* ABI 2 */
#define LL_FS_TRUNCATE (1ull << 14)  /* ABI 3 */
#define LL_FS_IOCTL_DEV (1ull << 15) /* ABI 5 */
#define LL_FS_ON_FILES (LL_FS_EXECUTE | LL_FS_WRITE_FILE | LL_FS_READ_FILE | LL_FS_TRUNCATE | LL_FS_IOCTL_DEV)
#define LL_SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0) /* ABI 6 */
#define LL_SCOPE_SIGNAL (1ull << 1)               /* ABI 6 */
#define LL_RULE_PATH_BENEATH 1
#define LL_RULE_NET_PORT 2

struct ll_ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

struct ll_path_beneath {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

struct ll_net_port {
	uint64_t allowed_access;
	uint64_t port;
};

/* statx(2) */
#ifndef STATX_MNT_ID_UNIQUE /* 6.8 */
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

/* close_range(2) */
#define CLOSE_RANGE_UNSHARE_TABLE (1u << 1)

/* openat2(2) */
#define OPEN_NO_MAGICLINKS 0x02

struct open_request {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};

/* pidfd_send_signal(2) */
#define PIDFD_TO_PROCESS_GROUP (1u << 2) /* 6.9 */

/* capabilities(7) */
#define SECUREBITS_LOCKED 0xefu /* all of them and their locks, but KEEP_CAPS, which is locked off */

/* open_tree(2), move_mount(2), fsopen(2), mount_setattr(2); all since 5.12 */
#define TREE_CLONE 1u
#define TREE_CLOEXEC O_CLOEXEC
#define TREE_RECURSIVE 0x8000u /* AT_RECURSIVE */
#define MOVE_FROM_DESCRIPTOR 0x04u /* MOVE_MOUNT_F_EMPTY_PATH */
#define MOVE_TO_SYMLINKS 0x10u     /* MOVE_MOUNT_T_SYMLINKS */
#define MOVE_TO_DESCRIPTOR 0x40u   /* MOVE_MOUNT_T_EMPTY_PATH */
#define MOUNT_RDONLY 0x01u
#define MOUNT_NOSUID 0x02u
#define MOUNT_NODEV 0x04u
#define MOUNT_NOEXEC 0x08u
#define FS_CLOEXEC 1u
#define FS_SET_STRING 1u
#define FS_CREATE 6u

struct mount_attributes {
	uint64_t set;
	uint64_t clear;
	uint64_t propagation;
	uint64_t user_namespace;
};

/* The same numbers on x86_64 and aarch64. */
#define NR_pidfd_send_signal 424
#define NR_open_tree 428
#define NR_move_mount 429
#define NR_fsopen 430
#define NR_fsconfig 431
#define NR_fsmount 432
#define NR_pidfd_open 434
#define NR_close_range 436
#define NR_openat2 437
#define NR_pidfd_getfd 438
#define NR_mount_setattr 442
#define NR_landlock_create_ruleset 444
#define NR_landlock_add_rule 445
#define NR_landlock_restrict_self 446
#define NR_fchmodat2 452

#endif
