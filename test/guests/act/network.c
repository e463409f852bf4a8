// SPDX-License-Identifier: Apache-2.0
/* Acts on sockets. Hosts are numeric, of either family. */
#include "act.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* Returns the length of the address, or 0 with errno set. */
static socklen_t parse(const char *host, const char *port, union address *ret_address)
{
	uint16_t number = htons((uint16_t)atoi(port));

	memset(ret_address, 0, sizeof(*ret_address));
	if (inet_pton(AF_INET, host, &ret_address->v4.sin_addr) == 1) {
		ret_address->v4.sin_family = AF_INET;
		ret_address->v4.sin_port = number;
		return sizeof(ret_address->v4);
	}
	if (inet_pton(AF_INET6, host, &ret_address->v6.sin6_addr) == 1) {
		ret_address->v6.sin6_family = AF_INET6;
		ret_address->v6.sin6_port = number;
		return sizeof(ret_address->v6);
	}
	errno = EINVAL;
	return 0;
}

/* A name that begins with '@' is in the abstract namespace. */
static socklen_t parse_local(const char *name, union address *ret_address)
{
	size_t length = strlen(name);

	memset(ret_address, 0, sizeof(*ret_address));
	if (length == 0 || length >= sizeof(ret_address->local.sun_path)) {
		errno = EINVAL;
		return 0;
	}
	ret_address->local.sun_family = AF_UNIX;
	memcpy(ret_address->local.sun_path, name, length);
	if (name[0] != '@')
		length++;
	else
		ret_address->local.sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int open_socket(const union address *address, int type)
{
	return socket(address->any.sa_family, type | SOCK_CLOEXEC, 0);
}

static int connect_tcp(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;

	(void)count;
	return report(fd < 0 ? -1 : connect(fd, &address.any, length));
}

/* Connects, sends the third argument and prints what comes back up to the end, so that the peer's view counts. */
static int exchange_tcp(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;
	char buffer[4096];
	ssize_t got;

	(void)count;
	if (fd < 0 || connect(fd, &address.any, length) < 0 || write(fd, arguments[2], strlen(arguments[2])) < 0 ||
	    shutdown(fd, SHUT_WR) < 0)
		return report(-1);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, (size_t)got, stdout);
	putchar('\n');
	return got < 0 ? report(-1) : 0;
}

static int send_udp(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_DGRAM) : -1;

	(void)count;
	return report(fd < 0 ? -1 : sendto(fd, "x", 1, 0, &address.any, length));
}

/* A datagram whose address is in a vector of messages. */
static int sendmmsg_udp(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_DGRAM) : -1;
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct mmsghdr message = {
		.msg_hdr = { .msg_name = &address, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1 },
	};

	(void)count;
	return report(fd < 0 ? -1 : sendmmsg(fd, &message, 1, 0));
}

/* A connect without connect(2): the address is given to sendto. */
static int fastopen(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;

	(void)count;
	return report(fd < 0 ? -1 : sendto(fd, "x", 1, MSG_FASTOPEN, &address.any, length));
}

/* The same through sendmsg(2). */
static int fastopen_sendmsg(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_name = &address, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1 };

	(void)count;
	return report(fd < 0 ? -1 : sendmsg(fd, &message, MSG_FASTOPEN));
}

/* TCP_FASTOPEN_CONNECT makes connect(2) succeed at once; the first write sends. */
static int fastopen_connect(int count, char **arguments)
{
	union address address;
	socklen_t length = parse(arguments[0], arguments[1], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;
	int on = 1;

	(void)count;
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)) < 0 ||
	    connect(fd, &address.any, length) < 0)
		return report(-1);
	return report(write(fd, "x", 1));
}

static int bind_tcp(int count, char **arguments)
{
	union address address;
	socklen_t length = parse("127.0.0.1", arguments[0], &address);
	int fd = open_socket(&address, SOCK_STREAM);

	(void)count;
	return report(fd < 0 ? -1 : bind(fd, &address.any, length));
}

/* listen(2) on a socket that was never bound, which makes the kernel pick a port. */
static int listen_unbound(int count, char **arguments)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)count;
	(void)arguments;
	return report(fd < 0 ? -1 : listen(fd, 1));
}

/* Family, type and protocol by number. */
static int make_socket(int count, char **arguments)
{
	(void)count;
	return report(socket(atoi(arguments[0]), atoi(arguments[1]), atoi(arguments[2])));
}

static int connect_local(int count, char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;

	(void)count;
	return report(fd < 0 ? -1 : connect(fd, &address.any, length));
}

static int abstract_connect(int count, char **arguments)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *argument = name;

	snprintf(name, sizeof(name), "@%s", arguments[0]);
	return connect_local(count, &argument);
}

static int bind_local(int count, char **arguments)
{
	union address address;
	socklen_t length = parse_local(arguments[0], &address);
	int fd = length ? open_socket(&address, SOCK_STREAM) : -1;

	(void)count;
	return report(fd < 0 ? -1 : bind(fd, &address.any, length));
}

const struct act network_acts[] = {
	{ "connect", 2, connect_tcp },
	{ "exchange", 3, exchange_tcp },
	{ "send-udp", 2, send_udp },
	{ "sendmmsg-udp", 2, sendmmsg_udp },
	{ "fastopen", 2, fastopen },
	{ "fastopen-sendmsg", 2, fastopen_sendmsg },
	{ "fastopen-connect", 2, fastopen_connect },
	{ "bind", 1, bind_tcp },
	{ "listen", 0, listen_unbound },
	{ "socket", 3, make_socket },
	{ "connect-unix", 1, connect_local },
	{ "abstract-connect", 1, abstract_connect },
	{ "bind-unix", 1, bind_local },
	{ 0 },
};
