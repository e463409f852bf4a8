// SPDX-License-Identifier: Apache-2.0
/* Ways to an address that was not granted. Hosts are numeric, of either family. */
#include "attack.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROTOCOL_MPTCP 262

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static socklen_t parse(char **arguments, union address *ret_address)
{
	uint16_t port = htons((uint16_t)atoi(arguments[1]));

	memset(ret_address, 0, sizeof(*ret_address));
	if (inet_pton(AF_INET, arguments[0], &ret_address->v4.sin_addr) == 1) {
		ret_address->v4.sin_family = AF_INET;
		ret_address->v4.sin_port = port;
		return sizeof(ret_address->v4);
	}
	ret_address->v6.sin6_family = AF_INET6;
	ret_address->v6.sin6_port = port;
	return inet_pton(AF_INET6, arguments[0], &ret_address->v6.sin6_addr) == 1 ? sizeof(ret_address->v6) : 0;
}

static int make_socket(const union address *address, int type, int protocol)
{
	return socket(address->any.sa_family, type | SOCK_CLOEXEC, protocol);
}

long connect_tcp(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : connect(fd, &address.any, length);
}

/* Not at once, but when select(2) says so: the kernel connects after the call. */
static long connect_later(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fd_set set;

	if (fd < 0 || (connect(fd, &address.any, length) < 0 && errno != EINPROGRESS))
		return -1;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	select(fd + 1, NULL, &set, NULL, NULL);
	return getpeername(fd, &address.any, &length);
}

/* The shortest address of IPv6 that the kernel takes, without a scope. */
static long connect_short(char **arguments)
{
	union address address;

	parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : connect(fd, &address.any, 24);
}

static long connect_long(char **arguments)
{
	union {
		union address address;
		char room[128];
	} padded = { 0 };

	parse(arguments, &padded.address);
	int fd = make_socket(&padded.address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : connect(fd, &padded.address.any, sizeof(padded));
}

/* A socket of one host, then of another: dissolved in between by AF_UNSPEC. HOST PORT of each. */
static long reconnect(char **arguments)
{
	union address first, second;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	socklen_t length = parse(arguments, &first);
	int fd = make_socket(&first, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, &first.any, length) == 0)
		connect(fd, &none, sizeof(none));
	length = parse(arguments + 2, &second);
	return connect(fd, &second.any, length);
}

static long mptcp(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, PROTOCOL_MPTCP);

	return fd < 0 ? -1 : connect(fd, &address.any, length);
}

static long mptcp_bind(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, PROTOCOL_MPTCP);

	return fd < 0 || bind(fd, &address.any, length) < 0 ? -1 : listen(fd, 1);
}

static long fastopen_sendto(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : sendto(fd, "x", 1, MSG_FASTOPEN, &address.any, length);
}

static struct msghdr message_to(union address *address, socklen_t length, struct iovec *part)
{
	return (struct msghdr){ .msg_name = address, .msg_namelen = length, .msg_iov = part, .msg_iovlen = 1 };
}

static long fastopen_sendmsg(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = message_to(&address, length, &part);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : sendmsg(fd, &message, MSG_FASTOPEN);
}

static long fastopen_sendmmsg(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct mmsghdr message = { .msg_hdr = message_to(&address, length, &part) };
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 ? -1 : sendmmsg(fd, &message, 1, MSG_FASTOPEN);
}

/* connect(2) succeeds at once with this option; the first write sends the first packet. */
static long fastopen_connect(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int on = 1;
	int fd = make_socket(&address, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)) < 0 ||
	    connect(fd, &address.any, length) < 0)
		return -1;
	return write(fd, "x", 1);
}

static long udp_sendto(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_DGRAM, 0);

	return fd < 0 ? -1 : sendto(fd, "x", 1, 0, &address.any, length);
}

static long udp_sendmsg(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = message_to(&address, length, &part);
	int fd = make_socket(&address, SOCK_DGRAM, 0);

	return fd < 0 ? -1 : sendmsg(fd, &message, 0);
}

static long udp_sendmmsg(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct mmsghdr message = { .msg_hdr = message_to(&address, length, &part) };
	int fd = make_socket(&address, SOCK_DGRAM, 0);

	return fd < 0 ? -1 : sendmmsg(fd, &message, 1, 0);
}

static long udp_connect(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_DGRAM, 0);

	return fd < 0 || connect(fd, &address.any, length) < 0 ? -1 : send(fd, "x", 1, 0);
}

static long bind_tcp(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, &address.any, length) < 0 ? -1 : listen(fd, 1);
}

/* Takes part of the connections of a listener that set the option too. */
static long steal_port(char **arguments)
{
	union address address;
	socklen_t length = parse(arguments, &address);
	int on = 1;
	int fd = make_socket(&address, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    bind(fd, &address.any, length) < 0)
		return -1;
	return listen(fd, 1);
}

/* The kernel picks a port for a socket that was never bound. */
static long listen_unbound(char **arguments)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)arguments;
	return fd < 0 ? -1 : listen(fd, 1);
}

/* A connection gives a socket a port, which it keeps in its name when it is dissolved. */
static long listen_dissolved(char **arguments)
{
	union address address;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	socklen_t length = parse(arguments, &address);
	int fd = make_socket(&address, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, &address.any, length) < 0 || connect(fd, &none, sizeof(none)) < 0)
		return -1;
	return listen(fd, 1);
}

/* Family, type and protocol by number. */
static long any_socket(char **arguments)
{
	return socket(atoi(arguments[0]), atoi(arguments[1]), atoi(arguments[2]));
}

static long any_pair(char **arguments)
{
	int fds[2];

	return socketpair(atoi(arguments[0]), atoi(arguments[1]), atoi(arguments[2]), fds);
}

/* A name that begins with '@' is in the abstract namespace. */
static socklen_t parse_local(const char *name, union address *ret_address)
{
	size_t length = strlen(name);

	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->local.sun_family = AF_UNIX;
	memcpy(ret_address->local.sun_path, name, length);
	if (name[0] == '@')
		ret_address->local.sun_path[0] = '\0';
	else
		length++;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static long unix_connect(char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : connect(fd, &address.any, length);
}

/* A datagram socket finds another by its name without connecting: one of a pair would do. */
static long unix_sendto(char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : sendto(fd, "x", 1, 0, &address.any, length);
}

static long unix_pair_sendto(char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	return sendto(fds[0], "x", 1, 0, &address.any, length);
}

static long unix_bind(char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 || bind(fd, &address.any, length) < 0 ? -1 : listen(fd, 1);
}

const struct attack network_attacks[] = {
	{ "connect", 2, connect_tcp },
	{ "connect-later", 2, connect_later },
	{ "connect-short", 2, connect_short },
	{ "connect-long", 2, connect_long },
	{ "reconnect", 4, reconnect },
	{ "mptcp", 2, mptcp },
	{ "mptcp-bind", 2, mptcp_bind },
	{ "fastopen-sendto", 2, fastopen_sendto },
	{ "fastopen-sendmsg", 2, fastopen_sendmsg },
	{ "fastopen-sendmmsg", 2, fastopen_sendmmsg },
	{ "fastopen-connect", 2, fastopen_connect },
	{ "udp-sendto", 2, udp_sendto },
	{ "udp-sendmsg", 2, udp_sendmsg },
	{ "udp-sendmmsg", 2, udp_sendmmsg },
	{ "udp-connect", 2, udp_connect },
	{ "bind", 2, bind_tcp },
	{ "steal-port", 2, steal_port },
	{ "listen-unbound", 0, listen_unbound },
	{ "listen-dissolved", 2, listen_dissolved },
	{ "socket", 3, any_socket },
	{ "socketpair", 3, any_pair },
	{ "unix-connect", 1, unix_connect },
	{ "unix-sendto", 1, unix_sendto },
	{ "unix-pair-sendto", 1, unix_pair_sendto },
	{ "unix-bind", 1, unix_bind },
	{ 0 },
};
