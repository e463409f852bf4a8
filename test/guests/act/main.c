// SPDX-License-Identifier: Apache-2.0
#include "act.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct act *const groups[] = {
	file_acts, network_acts, process_acts, kernel_acts, inspect_acts, burst_acts, memory_acts,
	alias_acts, metadata_acts, attribute_acts,
};

int report(long result)
{
	if (result >= 0) {
		puts("ok");
		return 0;
	}
	return report_word(strerrorname_np(errno));
}

int report_word(const char *word)
{
	puts(word ? word : "unknown");
	return 1;
}

int main(int argc, char **argv)
{
	const struct act *found = NULL;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc > 1 && i < sizeof(groups) / sizeof(groups[0]); i++) {
		for (const struct act *act = groups[i]; act->name; act++) {
			if (strcmp(act->name, argv[1]) != 0)
				continue;
			if (found) {
				fprintf(stderr, "two acts have this name: %s\n", argv[1]);
				return 2;
			}
			found = act;
		}
	}
	if (found && argc - 2 >= found->arguments)
		return found->run(argc - 2, argv + 2);
	fprintf(stderr, "no such act, or too few arguments: %s\n", argc > 1 ? argv[1] : "");
	return 2;
}
