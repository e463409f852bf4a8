// SPDX-License-Identifier: Apache-2.0
/*
 * Sends messages whose destination is in memory, and receives them. Prints "ok" or the name of the errno, unless said
 * otherwise. Hosts are numeric; a name that begins with '/', '.' or '@' is a Unix socket's.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 64

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static int report(long result)
{
	puts(result >= 0 ? "ok" : strerrorname_np(errno));
	fflush(stdout);
	return result < 0;
}

static socklen_t parse(const char *host, const char *port, union address *address)
{
	memset(address, 0, sizeof(*address));
	if (strchr("/.@", host[0])) {
		address->local.sun_family = AF_UNIX;
		memcpy(address->local.sun_path, host, strlen(host));
		if (host[0] != '@')
			return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(host) + 1);
		address->local.sun_path[0] = '\0';
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(host));
	}
	if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1) {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons((uint16_t)atoi(port));
		return sizeof(address->v4);
	}
	if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) != 1)
		exit(2);
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = htons((uint16_t)atoi(port));
	return sizeof(address->v6);
}

/* The ways to name a destination, and not to. */
static long send_by(const char *way, int fd, union address *address, socklen_t length, const char *text, size_t size)
{
	struct iovec parts[2] = { { (void *)text, size / 2 }, { (void *)(text + size / 2), size - size / 2 } };
	struct mmsghdr message = {
		.msg_hdr = { .msg_name = address, .msg_namelen = length, .msg_iov = parts, .msg_iovlen = 2 },
	};

	if (strcmp(way, "sendto") == 0)
		return sendto(fd, text, size, 0, &address->any, length);
	if (strcmp(way, "sendmsg") == 0)
		return sendmsg(fd, &message.msg_hdr, 0);
	if (strcmp(way, "sendmmsg") == 0)
		return sendmmsg(fd, &message, 1, 0);
	if (strcmp(way, "unspec") == 0) {
		address->any.sa_family = AF_UNSPEC;
		return sendto(fd, text, size, 0, &address->any, length);
	}
	if (strcmp(way, "send") != 0 && strcmp(way, "peer-sendmsg") != 0 && strcmp(way, "peer-sendmmsg") != 0)
		exit(2);
	if (connect(fd, &address->any, length) < 0)
		return -1;
	message.msg_hdr.msg_name = NULL;
	message.msg_hdr.msg_namelen = 0;
	if (strcmp(way, "peer-sendmsg") == 0)
		return sendmsg(fd, &message.msg_hdr, 0);
	if (strcmp(way, "peer-sendmmsg") == 0)
		return sendmmsg(fd, &message, 1, 0);
	return send(fd, text, size, 0);
}

/* send HOST PORT WAY TEXT [FAMILY] */
static int act_send(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int family = arguments[4] ? atoi(arguments[4]) : address.any.sa_family;
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return report(fd < 0 ? -1 : send_by(arguments[2], fd, &address, length, arguments[3], strlen(arguments[3])));
}

/* turn HOST PORT OTHER-HOST OTHER-PORT TEXT: connected to the first, a message names the second. */
static int act_turn(char **arguments)
{
	union address first, second;
	socklen_t length = parse(arguments[0], arguments[1], &first);
	int fd = socket(first.any.sa_family, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, &first.any, length) < 0)
		return report(-1);
	length = parse(arguments[2], arguments[3], &second);
	return report(send_by("sendmsg", fd, &second, length, arguments[4], strlen(arguments[4])));
}

/* many HOST PORT COUNT [OTHER-PORT]: one sendmmsg, the last message to the other port. Prints count and lengths. */
static int act_many(char **arguments)
{
	union address address, other;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int count = atoi(arguments[2]);
	int fd = socket(address.any.sa_family, SOCK_DGRAM, 0);
	struct mmsghdr messages[MANY];
	struct iovec parts[MANY];
	static char texts[MANY][16];
	int sent, total = 0;

	if (arguments[3])
		parse(arguments[0], arguments[3], &other);
	for (int i = 0; i < count; i++) {
		bool last = arguments[3] && i == count - 1;

		parts[i] = (struct iovec){ texts[i], (size_t)snprintf(texts[i], sizeof(texts[i]), "message %d", i) };
		messages[i] = (struct mmsghdr){
			.msg_hdr = { .msg_name = last ? &other : &address, .msg_namelen = length, .msg_iov = &parts[i],
				     .msg_iovlen = 1 },
			.msg_len = 999,
		};
	}
	sent = sendmmsg(fd, messages, (unsigned int)count, 0);
	if (sent < 0)
		return report(-1);
	for (int i = 0; i < sent; i++)
		total += (int)messages[i].msg_len == (int)parts[i].iov_len;
	printf("%d sent, %d lengths\n", sent, total);
	return 0;
}

static union address shared_address;
static int shared_fd, other_fds[2];
static atomic_int over;

static void *flip_port(void *argument)
{
	const uint16_t *ports = argument;

	while (!over) {
		shared_address.v4.sin_port = ports[0];
		shared_address.v4.sin_port = ports[1];
	}
	return NULL;
}

static void *flip_descriptor(void *argument)
{
	(void)argument;
	while (!over) {
		dup2(other_fds[0], shared_fd);
		dup2(other_fds[1], shared_fd);
	}
	return NULL;
}

static void *flip_local(void *argument)
{
	char **paths = argument;

	while (!over) {
		strcpy(shared_address.local.sun_path, paths[0]);
		strcpy(shared_address.local.sun_path, paths[1]);
	}
	return NULL;
}

static int race(void *(*flip)(void *), void *argument, const char *way, int count, socklen_t length, const char *text)
{
	pthread_t thread;
	int sent = 0;

	pthread_create(&thread, NULL, flip, argument);
	for (int i = 0; i < count; i++)
		sent += send_by(way, shared_fd, &shared_address, length, text, strlen(text)) >= 0;
	over = 1;
	pthread_join(thread, NULL);
	printf("%d\n", sent);
	return 0;
}

/* race-address HOST PORT OTHER-PORT WAY COUNT TEXT: prints how many were sent. */
static int act_race_address(char **arguments)
{
	socklen_t length = parse(arguments[0], arguments[1], &shared_address);
	uint16_t ports[2] = { htons((uint16_t)atoi(arguments[1])), htons((uint16_t)atoi(arguments[2])) };

	shared_fd = socket(AF_INET, SOCK_DGRAM, 0);
	return race(flip_port, ports, arguments[3], atoi(arguments[4]), length, arguments[5]);
}

/*
 * race-descriptor HOST PORT WAY COUNT TEXT: the descriptor is a stream socket, which ignores the address, and then a
 * datagram socket, which does not. Prints how many were sent.
 */
static int act_race_descriptor(char **arguments)
{
	socklen_t length = parse(arguments[0], arguments[1], &shared_address);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		return report(-1);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	other_fds[0] = pair[0];
	other_fds[1] = socket(shared_address.any.sa_family, SOCK_DGRAM, 0);
	shared_fd = dup(other_fds[0]);
	return race(flip_descriptor, NULL, arguments[2], atoi(arguments[3]), length, arguments[4]);
}

/* race-path PATH OTHER-PATH WAY COUNT TEXT: of equal length. Prints how many were sent. */
static int act_race_path(char **arguments)
{
	socklen_t length = parse(arguments[0], "", &shared_address);

	shared_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	return race(flip_local, arguments, arguments[2], atoi(arguments[3]), length, arguments[4]);
}

/* receive HOST PORT: prints "ready PORT", then each message in a line, with "(fd)" when it brought a descriptor. */
static int act_receive(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = socket(address.any.sa_family, SOCK_DGRAM, 0);
	char bytes[65536], control[256];

	if (fd < 0 || bind(fd, &address.any, length) < 0)
		return report(-1);
	length = sizeof(address);
	getsockname(fd, &address.any, &length);
	printf("ready %d\n", address.any.sa_family == AF_UNIX ? 0 : ntohs(address.v4.sin_port));
	fflush(stdout);
	for (;;) {
		struct iovec part = { bytes, sizeof(bytes) };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
					  .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

		if (got < 0)
			return report(-1);
		printf("%.*s%s\n", (int)(got > 100 ? 100 : got), bytes, message.msg_controllen > 0 ? " (fd)" : "");
		fflush(stdout);
	}
}

/* size HOST PORT BYTES WAY */
static int act_size(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	size_t size = (size_t)atoi(arguments[2]);
	int fd = socket(address.any.sa_family, SOCK_DGRAM, 0);
	char *bytes = malloc(size + 1);

	memset(bytes, 'x', size);
	return report(fd < 0 ? -1 : send_by(arguments[3], fd, &address, length, bytes, size));
}

static long send_descriptor(int fd, union address *address, socklen_t length, int passed)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { "passed", 6 };
	struct msghdr message = {
		.msg_name = address, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
	return sendmsg(fd, &message, 0);
}

/* pass-to PATH: a descriptor to a Unix socket by its name. */
static int act_pass_to(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], "", &address);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	return report(fd < 0 ? -1 : send_descriptor(fd, &address, length, 1));
}

/* pass: a pipe's end through a pair; what is written there arrives. */
static int act_pass(char **arguments)
{
	char control[CMSG_SPACE(sizeof(int))], bytes[8] = "";
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int pair[2], ends[2], passed;

	(void)arguments;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || pipe(ends) < 0 ||
	    send_descriptor(pair[0], NULL, 0, ends[1]) < 0 || recvmsg(pair[1], &message, 0) != 6 ||
	    message.msg_controllen != sizeof(control))
		return report(-1);
	memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(passed));
	if (passed == ends[1] || write(passed, "x", 1) != 1)
		return report(-1);
	return report(read(ends[0], bytes, 1) == 1 ? 0 : -1);
}

/* pass-many COUNT: so many descriptors through a pair. Prints how many arrived. */
static int act_pass_many(char **arguments)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} control;
	int count = atoi(arguments[0]), pair[2];
	char byte = 'x';
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count) };

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return report(-1);
	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count),
					   .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	for (int i = 0; i < count; i++)
		memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof(int), &pair[0], sizeof(int));
	if (sendmsg(pair[0], &message, 0) != 1)
		return report(-1);
	message.msg_controllen = sizeof(control);
	if (recvmsg(pair[1], &message, 0) != 1)
		return report(-1);
	printf("%zu\n", (control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	return 0;
}

/* stream BYTES: through sendmsg on a pair that blocks, read slowly by a child. Prints what both counted. */
static int act_stream(char **arguments)
{
	size_t size = (size_t)atoi(arguments[0]), got = 0;
	struct iovec part = { malloc(size), size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	char bytes[4096];
	ssize_t count;
	int pair[2];

	memset(part.iov_base, 'x', size);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return report(-1);
	if (fork() == 0) {
		close(pair[0]);
		while ((count = read(pair[1], bytes, sizeof(bytes))) > 0)
			got += (size_t)count;
		printf("received %zu\n", got);
		fflush(stdout);
		_exit(0);
	}
	close(pair[1]);
	printf("sent %zd\n", sendmsg(pair[0], &message, 0));
	fflush(stdout);
	close(pair[0]);
	wait(NULL);
	return 0;
}

static void on_signal(int number)
{
	(void)number;
	printf("signal %d\n", number);
	fflush(stdout);
}

/* broken: a message to a peer that has gone raises SIGPIPE, unless it says otherwise. */
static int act_broken(char **arguments)
{
	struct iovec part = { "x", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	int pair[2];

	(void)arguments;
	signal(SIGPIPE, on_signal);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return report(-1);
	close(pair[1]);
	report(sendmsg(pair[0], &message, MSG_NOSIGNAL));
	return report(sendmsg(pair[0], &message, 0));
}

/* full PATH: fills the queue of a Unix socket that nobody reads; then waits for room, up to an alarm. */
static int act_full(char **arguments)
{
	struct sigaction action = { .sa_handler = on_signal };
	union address address;
	socklen_t length = parse(arguments[0], "", &address);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	long result;

	if (fd < 0)
		return report(-1);
	do {
		result = sendto(fd, "x", 1, MSG_DONTWAIT, &address.any, length);
	} while (result == 1);
	report(result);
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	return report(sendto(fd, "x", 1, 0, &address.any, length));
}

/* hold PATH: a Unix socket that is bound and never read. */
static int act_hold(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], "", &address);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	if (report(fd < 0 ? -1 : bind(fd, &address.any, length)))
		return 1;
	for (;;)
		pause();
}

static void *send_once(void *argument)
{
	sendto(shared_fd, "x", 1, 0, &shared_address.any, *(socklen_t *)argument);
	return NULL;
}

/*
 * abandon PATH COUNT: at each 'n' that comes in so many threads send, and end with their process at the next byte; at
 * any other byte one more sends.
 */
static int act_abandon(char **arguments)
{
	socklen_t length = parse(arguments[0], "", &shared_address);
	int count = atoi(arguments[1]);
	pthread_attr_t small;
	pthread_t thread;
	char byte;
	pid_t child;

	shared_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	while (read(0, &byte, 1) == 1 && byte == 'n') {
		child = fork();
		if (child == 0) {
			for (int i = 0; i < count; i++)
				pthread_create(&thread, &small, send_once, &length);
			for (;;)
				pause();
		}
		if (read(0, &byte, 1) != 1)
			return 2;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return report(sendto(shared_fd, "last one", 8, 0, &shared_address.any, length));
}

/* own-local PATH: binds and listens, connects to itself and talks. */
static int act_own_local(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], "", &address);
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), peer;
	char byte;

	if (server < 0 || bind(server, &address.any, length) < 0 || listen(server, 1) < 0 ||
	    connect(client, &address.any, length) < 0)
		return report(-1);
	peer = accept(server, NULL, NULL);
	return report(peer < 0 || write(client, "x", 1) < 0 || read(peer, &byte, 1) != 1 ? -1 : 0);
}

/* echo HOST: one ICMP echo request. */
static int act_echo(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], "0", &address);
	bool is_v6 = address.any.sa_family == AF_INET6;
	int fd = socket(address.any.sa_family, SOCK_DGRAM, is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	char request[8] = { (char)(is_v6 ? 128 : 8) };

	return report(fd < 0 ? -1 : sendto(fd, request, sizeof(request), 0, &address.any, length));
}

static const struct {
	const char *name;
	int (*run)(char **arguments);
} acts[] = {
	{ "send", act_send },
	{ "turn", act_turn },
	{ "many", act_many },
	{ "race-address", act_race_address },
	{ "race-descriptor", act_race_descriptor },
	{ "race-path", act_race_path },
	{ "receive", act_receive },
	{ "size", act_size },
	{ "pass-to", act_pass_to },
	{ "pass", act_pass },
	{ "pass-many", act_pass_many },
	{ "stream", act_stream },
	{ "broken", act_broken },
	{ "full", act_full },
	{ "hold", act_hold },
	{ "abandon", act_abandon },
	{ "own-local", act_own_local },
	{ "echo", act_echo },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(acts) / sizeof(acts[0]); i++)
		if (strcmp(acts[i].name, argv[1]) == 0)
			return acts[i].run(argv + 2);
	return 2;
}
