/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one description of what crosses between the parts of Sandgate:
 *   the shared library and the engine thread (records, answers, shapes),
 *   the server and the warden (messages on a SOCK_SEQPACKET socket),
 *   the engine and a sandbox's keeper (requests and replies, likewise),
 *   the engine and the tracer (likewise).
 *
 * All integers are little-endian and naturally aligned; no struct has implicit
 * padding. The library describes these layouts at load (library/layout.c) and
 * src/native/abi.ts compares them with its own view, so the two cannot drift apart.
 */
#ifndef SANDGATE_ABI_H
#define SANDGATE_ABI_H

#include <stdint.h>

#define SG_ABI_VERSION 1

/* ------------------------------------------------------------------ exchange */

/* What a slot of the engine's epoll set is. */
enum sg_source {
	SG_SOURCE_LISTENER = 1, /* seccomp notification fd */
	SG_SOURCE_CHANNEL = 2,  /* SOCK_SEQPACKET socket: the warden's, a keeper's */
	SG_SOURCE_TASK = 3,     /* pidfd of a task whose call is held */
	SG_SOURCE_WAKE = 4,     /* eventfd by which the main thread wakes the engine */
};

/* Kinds of records, native to TypeScript. */
enum sg_record_kind {
	SG_RECORD_CALL = 1,     /* a notification was received; it must be answered */
	SG_RECORD_TERMINAL = 2, /* a source ended; it was removed from the set and closed */
	SG_RECORD_MESSAGE = 3,  /* a packet came in on a channel, perhaps with descriptors */
	SG_RECORD_TASK = 4,     /* the task of a held call ended; the pidfd was removed and closed */
	SG_RECORD_WAKE = 5,     /* the main thread has something for the engine */
	SG_RECORD_OUTCOME = 6,  /* an answer failed, and not because its caller was gone */
	SG_RECORD_FAULT = 7,    /* receiving on a source failed with an errno that is not "look again" */
};

/* Descriptors in one message, on every channel; and from the engine to a keeper, as many as the kernel passes at once. */
#define SG_MAX_FDS 8
#define SG_MAX_SENT_FDS 253

/*
 * One record. `size` counts the header and what follows it, padded to 8 bytes.
 * CALL: followed by `blobs` argument blobs (struct sg_blob each, then its bytes, padded to 8).
 * MESSAGE: followed by `args[0]` payload bytes; fds[] holds the descriptors, -1 where none.
 * TERMINAL, FAULT: error is 0 or a negative errno. OUTCOME: id is the answer's, error its result.
 */
struct sg_record {
	uint32_t size;
	uint16_t kind;
	uint16_t blobs;
	uint32_t slot;       /* the source's, as given when it was added */
	int32_t error;
	uint64_t id;         /* notification id, CALL and OUTCOME */
	uint32_t pid;        /* thread id of the caller in the server's pid namespace */
	int32_t nr;
	uint32_t arch;
	uint32_t reserved;
	uint64_t ip;
	uint64_t args[6];
	int32_t fds[SG_MAX_FDS];
};

/* One pointed-to argument that was copied from the caller's memory. */
struct sg_blob {
	int32_t length;      /* bytes copied, or a negative errno: then nothing may be decided on it */
	uint16_t arg;        /* which argument, 0 to 5 */
	uint16_t cut;        /* 1 when a bound cut the copy short */
};

/* What an answer does. */
enum sg_answer_kind {
	SG_ANSWER_SEND = 1,  /* SECCOMP_IOCTL_NOTIF_SEND with error, value, flags */
	SG_ANSWER_FD = 2,    /* SECCOMP_IOCTL_NOTIF_ADDFD with SEND: the caller's call returns the new fd; `fd` is closed afterwards */
};

#define SG_ANSWER_CONTINUE (1u << 0) /* SECCOMP_USER_NOTIF_FLAG_CONTINUE */

/* A failed ADDFD is answered EPERM by the library itself, and reported. */
struct sg_answer {
	uint32_t slot;
	uint32_t kind;
	uint64_t id;
	int64_t value;
	int32_t error;       /* negative errno, or 0 */
	uint32_t flags;
	int32_t fd;          /* SG_ANSWER_FD: descriptor in the server */
	uint32_t fd_flags;   /* SG_ANSWER_FD: O_CLOEXEC or 0, for the descriptor in the caller */
};

/* How a pointed-to argument is copied. */
enum sg_shape_kind {
	SG_SHAPE_STRING = 1,  /* NUL-terminated, at most `limit` bytes */
	SG_SHAPE_BYTES = 2,   /* `length_arg` gives the length, at most `limit` bytes */
	SG_SHAPE_STRINGS = 3, /* NULL-terminated vector of strings, packed with their NULs, at most `limit` bytes and 1024 strings */
	SG_SHAPE_BLOCK = 4,   /* exactly `limit` bytes, or none when the pointer is NULL */
};

#define SG_SHAPES_PER_CALL 3

struct sg_shape {
	uint8_t kind;        /* 0: none */
	uint8_t arg;
	uint8_t length_arg;
	uint8_t reserved;
	uint32_t limit;
};

/* ----------------------------------------------- server to warden: LAUNCH, EXEC */

enum sg_message_type {
	/* server to warden */
	SG_MSG_LAUNCH = 1,   /* struct sg_plan; fds: stdin, stdout, stderr [, memfd with the plan] */
	SG_MSG_EXEC = 2,     /* struct sg_plan with sandbox_id set to the sandbox's launch id; fds as above */
	SG_MSG_SIGNAL = 3,   /* struct sg_signal: to one started process or its group, by launch id */
	SG_MSG_KILL = 4,     /* struct sg_signal: kill everything of the sandbox; answered by EXITED of its processes, then GONE */
	/* warden to server */
	SG_MSG_HELLO = 16,   /* struct sg_hello, once */
	SG_MSG_READY = 17,   /* struct sg_ready; fds: go eventfd, for LAUNCH also [listener,] keeper socket, open files */
	SG_MSG_STARTED = 18, /* struct sg_started */
	SG_MSG_FAILED = 19,  /* struct sg_failed, then its argument's bytes; the launch's last message */
	SG_MSG_EXITED = 20,  /* struct sg_exited */
	SG_MSG_GONE = 21,    /* struct sg_ready: nothing of the sandbox is left, keeper included */
	SG_MSG_LIMIT = 22,   /* struct sg_limit_report: the sandbox reached a limit; up to TASKS it is being killed, and its exits follow */
};

struct sg_message {
	uint32_t type;
	uint32_t size;       /* of the whole message */
	uint64_t launch_id;  /* chosen by the server, never used twice */
};

/* Stages of a launch, in their order. The order is a contract. */
enum sg_stage {
	SG_STAGE_RECEIVE = 1,
	SG_STAGE_CLONE = 2,
	SG_STAGE_SESSION = 3,
	SG_STAGE_TERMINAL = 4,
	SG_STAGE_NAMESPACES = 5,
	SG_STAGE_MOUNTS = 6,
	SG_STAGE_IDS = 7,
	SG_STAGE_CWD = 8,
	SG_STAGE_PROGRAM = 9,
	SG_STAGE_RLIMITS = 10,
	SG_STAGE_CAPABILITIES = 11,
	SG_STAGE_NO_NEW_PRIVS = 12,
	SG_STAGE_LANDLOCK_OUTER = 13,
	SG_STAGE_KEEPER = 14,
	SG_STAGE_LANDLOCK_INNER = 15,
	SG_STAGE_FILTER = 16,
	SG_STAGE_ATTACH = 17,
	SG_STAGE_NURSERY = 18,
	SG_STAGE_DESCRIPTORS = 19,
	SG_STAGE_ENVIRONMENT = 20,
	SG_STAGE_EXEC = 21,
};
#define SG_STAGE_COUNT 22

#define SG_PLAN_MAGIC 0x31504753u /* "SGP1" */

/* Flags of a plan. */
#define SG_PLAN_MEMFD (1u << 0)          /* the plan is in the last descriptor; the message has only the header */
#define SG_PLAN_TERMINAL (1u << 1)       /* stdin is a terminal: make it the controlling one */
#define SG_PLAN_NURSERY (1u << 2)        /* keep a nursery, so that EXEC works */
#define SG_PLAN_NEW_PID_NAMESPACE (1u << 3)
#define SG_PLAN_NEW_USER_NAMESPACE (1u << 4)
#define SG_PLAN_SET_IDS (1u << 5)        /* uid and gid below */
#define SG_PLAN_NO_LANDLOCK (1u << 6)    /* degraded on request: no layers, no keeper kill(-1) */
#define SG_PLAN_NO_BOUNDING (1u << 7)    /* the bounding set cannot be dropped (not root); checked to be harmless */
#define SG_PLAN_UMASK (1u << 8)          /* umask below; else 022 */
#define SG_PLAN_NEW_MOUNT_NAMESPACE (1u << 9) /* private, with the steps of `mounts` carried out in it */
#define SG_PLAN_SAME_PATHS (1u << 10)    /* the mounts leave all paths of the layers what they name */

#define SG_PLAN_INIT (1u << 12)          /* a subreaper above all its processes, so that none of them gets out of its sight */

/* A part of the plan: bytes at an offset from the start of struct sg_plan. */
struct sg_span {
	uint32_t offset;
	uint32_t length;
};

/*
 * A launch plan. One packet: this header, then what the spans point to. Spans are
 * 8-aligned. argv and envp are strings packed with their NULs. `search` is the PATH
 * to look the program up in when argv[0] has no slash. For EXEC, only argv, envp, cwd,
 * search, flags (TERMINAL) and launch ids are used: the rest is inherited.
 */
struct sg_plan {
	struct sg_message head;
	uint64_t sandbox_id;     /* launch id of the sandbox's main process; equals head.launch_id for LAUNCH */
	uint32_t magic;
	uint32_t flags;
	uint32_t uid;
	uint32_t gid;
	uint32_t umask;
	uint32_t filter_flags;   /* flags of seccomp(2), 0 when there is no listener: then no filter call is notified */
	struct sg_span argv;
	struct sg_span envp;
	struct sg_span search;   /* one string, no NUL */
	struct sg_span cwd;      /* one string, no NUL */
	struct sg_span rlimits;  /* array of struct sg_rlimit */
	struct sg_span outer;    /* struct sg_ruleset and its rules */
	struct sg_span inner;    /* likewise; empty means equal to outer */
	struct sg_span filter;   /* array of struct sock_filter */
	struct sg_span denied;   /* struct sg_path_rule each, of what is refused; to be surveyed */
	struct sg_span mounts;   /* struct sg_mount and its strings, repeated; at most SG_MAX_MOUNTS */
	struct sg_span whole;    /* likewise, of what the program is granted where `inner` leaves out what leads to denied paths */
	uint64_t memory_bytes;   /* INIT: of all processes together, watched by it; 0: no limit */
	uint64_t cpu_time_us;    /* INIT: likewise */
	uint32_t max_tasks;      /* INIT: likewise, helpers included */
	uint32_t tasks_kept;     /* INIT: 1 when the kernel refuses more than max_tasks, so that it need only be told */
	uint32_t cpu_millis;     /* INIT: share of a processor in thousandths; 0: no limit */
	uint32_t reserved;
};

/*
 * Steps that give a sandbox its view of the file system, in the order of the plan. Sources are found in the host's
 * view, before any step; paths in the sandbox's, as the steps before have made it. Nothing is ever made on the host.
 */
enum sg_mount_op {
	SG_MOUNT_ROOT = 1,      /* the tree at `source` becomes the root; the first step, if any */
	SG_MOUNT_BIND = 2,      /* shows what is at `source`, with all mounted below, at `path` */
	SG_MOUNT_TMPFS = 3,     /* an empty file system in memory; data: its mount options */
	SG_MOUNT_PROC = 4,      /* a proc of the sandbox's own PID namespace */
	SG_MOUNT_FILE = 5,      /* shows a file with `data` as its content at `path` */
	SG_MOUNT_HIDE = 6,      /* shows an empty file or directory without any permission at `path` */
	SG_MOUNT_WRITABLE = 7,  /* keeps what is at `path`, with all mounted below, as it is in the next READ_ONLY */
	SG_MOUNT_READ_ONLY = 8, /* makes everything read-only but what is kept */
	SG_MOUNT_LINK = 9,      /* a symbolic link to `source` at `path`, if nothing is there */
};

#define SG_MOUNT_RDONLY (1u << 0)   /* BIND, TMPFS, FILE: nothing can be written through it */
#define SG_MOUNT_OPTIONAL (1u << 1) /* what is missing at path or source is no error */
#define SG_MOUNT_MAKE (1u << 2)     /* BIND, TMPFS, PROC, FILE: a missing path is made, in a read-only copy of its directory */
#define SG_MOUNT_OPEN (1u << 3)     /* FILE: READY carries a descriptor by which its content can be changed */

#define SG_MAX_MOUNTS 1024
#define SG_MAX_OPEN_FILES 4 /* FILE steps with SG_MOUNT_OPEN */

/* Data of BIND and HIDE, if any: what must be there, by statx(2). Else the step fails with ESTALE. */
struct sg_identity {
	uint64_t inode;
	uint32_t device_major;
	uint32_t device_minor;
};

/* Followed by path and source, each with its NUL, and data; each padded to 8. A length is without NUL and padding. */
struct sg_mount {
	uint32_t op;
	uint32_t flags;
	uint32_t mode;       /* FILE: permission bits */
	uint32_t path;       /* lengths */
	uint32_t source;
	uint32_t data;
};

struct sg_rlimit {
	uint32_t resource;
	uint32_t reserved;
	uint64_t soft;
	uint64_t hard;
};

/* A Landlock layer: path rules, then port rules, follow. landlock(7). */
struct sg_ruleset {
	uint64_t handled_fs;
	uint64_t handled_net;
	uint64_t scoped;
	uint32_t path_count;
	uint32_t port_count;
};

#define SG_PATH_OPTIONAL (1u << 0) /* a missing path grants nothing and is no error */
#define SG_PATH_EXACT (1u << 1)    /* a link is not followed, and what is found must be the inode below: else as if missing, or ESTALE */

/* Followed by the path's bytes (no NUL), padded to 8. Rights that make no sense on a file are masked off when it is one. */
struct sg_path_rule {
	uint64_t access;
	uint64_t inode;        /* EXACT */
	uint32_t device_major; /* EXACT */
	uint32_t device_minor; /* EXACT */
	uint32_t flags;
	uint32_t length;
};

struct sg_port_rule {
	uint64_t access;
	uint64_t port;
};

#define SG_SIGNAL_PROCESS 1
#define SG_SIGNAL_GROUP 2

struct sg_signal {
	struct sg_message head;
	uint32_t signal;
	uint32_t scope;
};

struct sg_hello {
	struct sg_message head;
	uint32_t abi;
	uint32_t pid;
};

struct sg_ready {
	struct sg_message head;
	uint32_t pid;        /* in the server's pid namespace */
	uint32_t inner_pid;  /* as the process sees itself */
	uint32_t keeper_pid; /* 0 for EXEC */
	uint32_t reserved;
};

struct sg_started {
	struct sg_message head;
	uint32_t pid;
	uint32_t reserved;
	uint64_t stage_ns[SG_STAGE_COUNT]; /* CLOCK_MONOTONIC when the stage was entered, 0 when it was not */
};

struct sg_failed {
	struct sg_message head;
	uint32_t stage;
	int32_t error;       /* negative errno */
	uint32_t detail;     /* length of the argument that follows: a path, or the name of the system call's object */
	uint32_t reserved;
};

struct sg_exited {
	struct sg_message head;
	uint32_t pid;
	uint32_t status;     /* as wait(2) gives it */
	uint64_t user_us;
	uint64_t system_us;
	uint64_t max_rss_kib;
	uint64_t time_ns;    /* CLOCK_REALTIME */
};

/* Limits of a sandbox as a whole. */
enum sg_limit {
	SG_LIMIT_NONE = 0,
	SG_LIMIT_MEMORY = 1,
	SG_LIMIT_CPU_TIME = 2,
	SG_LIMIT_UNSEEN = 3, /* whether it keeps to them cannot be seen any more */
	SG_LIMIT_TASKS = 4,
	SG_LIMIT_TASKS_FULL = 5, /* nothing is killed: the kernel refuses more */
	SG_LIMIT_SHARE_USED = 6, /* nothing is killed: all are to stop */
	SG_LIMIT_SHARE_FREE = 7, /* and to go on */
};

struct sg_limit_report {
	struct sg_message head;
	uint32_t limit;
	uint32_t reserved;
	uint64_t memory_bytes; /* as last seen */
	uint64_t cpu_us;
};

/* ------------------------------------------------------- engine to keeper */

enum sg_keeper_op {
	SG_KEEPER_PROCESS = 20, /* struct sg_keeper_process follows: asks of, or changes, a process of the sandbox; else ESRCH */
	SG_KEEPER_LISTEN = 21, /* fds: the socket; mode: the backlog; struct sg_port_range of what may be bound follow */
	SG_KEEPER_RESOLVE = 1, /* pin a path; fds: [directory it is relative to] */
	SG_KEEPER_OPEN = 2,    /* open what was pinned, and forget the pin; reply carries the descriptor */
	SG_KEEPER_RELEASE = 3, /* forget a pin; no reply */
	SG_KEEPER_CONNECT = 4, /* fds: the socket; the address follows, after the call's id where flags has ANSWER */
	SG_KEEPER_SIGNAL = 5,  /* kill(-1, signal) inside the sandbox's own domain */
	SG_KEEPER_CANCEL = 6,  /* stop a connect or a send in progress; no reply of its own */
	SG_KEEPER_ACT = 7,     /* struct sg_keeper_act follows: one call on a file, where the program's own grants cover it */
	SG_KEEPER_LISTENER = 8, /* fds: the sandbox's listener, by which CONNECT may answer; no reply */
	SG_KEEPER_SEND = 9,    /* struct sg_keeper_send follows: one message; fds: the socket, then those that it carries */
	SG_KEEPER_PROGRAM = 10, /* as RESOLVE, of a file to be executed; without a path, of the descriptor itself */
	SG_KEEPER_BIND = 11,   /* fds: the socket; the address follows; umask for a socket file */
};

/* CONNECT: a uint64_t, the notification's id, comes first. A result that is there at once answers the call itself. */
#define SG_KEEPER_ANSWER (1u << 0)

struct sg_keeper_request {
	uint32_t op;
	uint32_t flags;      /* RESOLVE, OPEN: the caller's open flags; ACT: SG_ACT_… below; CONNECT: SG_KEEPER_ANSWER or PINNED */
	uint64_t op_id;      /* chosen by the engine; RESOLVE's names the pin for OPEN and RELEASE */
	uint32_t mode;       /* OPEN, ACT: the caller's mode */
	uint32_t umask;      /* OPEN: the caller's umask */
	uint32_t signal;
	uint32_t length;     /* bytes that follow: the path, or the address */
};

/* What an ACT does. The first descriptor is the directory that the path is relative to, or the file itself. */
enum sg_act {
	SG_ACT_CHMOD = 1,
	SG_ACT_CHOWN = 2,
	SG_ACT_UTIME = 3,
	SG_ACT_SETXATTR = 4,    /* name, value, options: of setxattr(2) */
	SG_ACT_REMOVEXATTR = 5, /* name */
	SG_ACT_WATCH = 6,       /* second descriptor: the inotify instance; options: the mask. What may be read can be watched. */
	/* What the kernel refuses only because a denied path lies beyond: SG_ACT_LEAVE for everything else. */
	SG_ACT_OPEN = 7,        /* options: the caller's open flags; the reply carries the descriptor */
	SG_ACT_MKDIR = 8,
	SG_ACT_MKNOD = 9,
	SG_ACT_RMDIR = 10,
	SG_ACT_UNLINK = 11,
	SG_ACT_SYMLINK = 12,    /* value: what the link says */
	SG_ACT_LINK = 13,       /* second descriptor and value: where the new link's path starts, and the path */
	SG_ACT_RENAME = 14,     /* likewise; options: of renameat2(2) */
	SG_ACT_TRUNCATE = 15,   /* times[0]: the length */
};

/* The error of an act that the kernel itself decides rightly: the call is to run as it was issued. */
#define SG_ACT_LEAVE 4095

#define SG_ACT_NOFOLLOW (1u << 0)   /* a link itself, not what it leads to */
#define SG_ACT_DESCRIPTOR (1u << 1) /* the first descriptor is the file; there is no path */
#define SG_ACT_OPENED (1u << 2)     /* DESCRIPTOR: one that gives access to nothing is no good (EBADF) */

struct sg_keeper_act {
	uint32_t act;
	uint32_t options;
	uint32_t uid;
	uint32_t gid;
	uint32_t path;       /* lengths of what follows, one behind the other */
	uint32_t name;
	uint32_t value;
	uint32_t reserved;
	int64_t times[4];    /* UTIME: seconds and nanoseconds of access and change, as for utimensat(2) */
};

#define SG_ACT_VALUE_LIMIT 65536u /* XATTR_SIZE_MAX */

/*
 * One message of a socket, sent as sendmsg(2) would and never waited for in the keeper itself. The name or, in its
 * stead, the file of a pin, then control messages in the kernel's form but for descriptors, then the data.
 */
struct sg_keeper_send {
	uint32_t flags;      /* MSG_… of the call */
	uint32_t name;       /* lengths of what follows, one behind the other */
	uint32_t control;
	uint32_t data;
	uint64_t pin;        /* 0: none; else op_id of the socket file's RESOLVE, which is forgotten then */
};

#define SG_SEND_NAME_LIMIT 128u     /* sizeof(struct sockaddr_storage) */
#define SG_SEND_CONTROL_LIMIT 4096u
#define SG_SEND_DATA_LIMIT 65536u   /* more than any datagram of the internet families has */

/* Inclusive. */
struct sg_port_range {
	uint16_t first;
	uint16_t last;
};

/* What a PROCESS does, once the process is known to be of the sandbox. */
enum sg_process_change {
	SG_PROCESS_ASK = 0,         /* nothing else */
	SG_PROCESS_AFFINITY = 1,    /* the mask follows */
	SG_PROCESS_SCHEDULER = 2,   /* value: the policy; struct sched_param follows */
	SG_PROCESS_PARAMETERS = 3,  /* struct sched_param follows */
	SG_PROCESS_PRIORITY = 4,    /* value: the nice value */
	SG_PROCESS_IO_PRIORITY = 5, /* value: of ioprio_set(2) */
	SG_PROCESS_LIMIT = 6,       /* value: the resource; struct rlimit64 follows */
};

#define SG_PROCESS_VALUE_LIMIT 1024u

struct sg_keeper_process {
	uint32_t change;
	int32_t pid;         /* as the caller sees it; negative: ASK of a process group */
	int32_t value;
	uint32_t reserved;
};

#define SG_KEEPER_EXISTS (1u << 0)   /* RESOLVE: the path names something that exists */
#define SG_KEEPER_ANSWERED (1u << 1) /* CONNECT: calls were answered; the op_ids of them follow */
#define SG_KEEPER_PINNED (1u << 1) /* CONNECT: in place of an address, the 64-bit op_id of a socket file's RESOLVE follows */

struct sg_keeper_reply {
	uint32_t op;
	int32_t error;       /* negative errno, or 0 */
	uint64_t op_id;
	uint32_t flags;      /* RESOLVE: SG_KEEPER_EXISTS; CONNECT: SG_KEEPER_ANSWERED; ACT: what the call returned; SEND: bytes sent */
	uint32_t length;     /* bytes that follow: RESOLVE: the canonical path; ANSWERED: an array of uint64_t; PROGRAM: struct sg_keeper_program */
	uint64_t device;     /* RESOLVE, PROGRAM: of what exists, as stat(2) has it */
	uint64_t inode;
};

#define SG_PROGRAM_HEAD 256 /* what the kernel looks at to know a program: BINPRM_BUF_SIZE */

/* Followed by the canonical path, then the file's first bytes. */
struct sg_keeper_program {
	uint32_t path;       /* lengths */
	uint32_t head;       /* 0 when the file cannot be read */
};

/* ------------------------------------------------------- engine to tracer */

enum sg_tracer_op {
	SG_TRACER_WATCH = 1, /* watch a thread through the execve that it is held in; answered by ARMED, then one more */
	SG_TRACER_DROP = 2,  /* the thread was somebody else: let it go on, whatever it does */
};

#define SG_WATCH_PREFIX (1u << 0) /* the arguments that follow are the first of them only */

/* Followed, for a WATCH, by the arguments that the new program must have been given, packed with their NULs. */
struct sg_watch {
	uint32_t op;
	uint32_t tid;        /* in the server's pid namespace */
	uint64_t op_id;      /* chosen by the engine */
	uint64_t device;     /* the executable that must have been started, as stat(2) gives them */
	uint64_t inode;
	uint32_t tgid;
	uint32_t flags;
	uint32_t length;
	uint32_t reserved;
};

#define SG_WATCH_LIMIT 98304u /* bytes of a whole request */

enum sg_tracer_event {
	SG_TRACER_REFUSED = 1,  /* it cannot be watched: error says why */
	SG_TRACER_ARMED = 2,    /* it can be let go on */
	SG_TRACER_RAN = 3,      /* the program that was to start did; it goes on unwatched */
	SG_TRACER_RETURNED = 4, /* the execve failed; the thread goes on unwatched */
	SG_TRACER_GONE = 5,     /* the thread ended */
	SG_TRACER_KILLED = 6,   /* another program or other arguments: it was killed before its first instruction */
};

struct sg_watched {
	uint64_t op_id;
	uint32_t event;
	int32_t error;       /* negative errno, or 0 */
};

#endif
