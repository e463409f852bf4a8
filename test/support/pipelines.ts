/** A program that makes pipelines of three while signals arrive, prints `done`, and fails when a process was refused. */
export function pipelines(count: number): string[] {
  const one = "kill -USR1 $$; echo a | cat | cat || exit 3; i=$((i+1))";
  return ["/bin/sh", "-c", `trap : USR1; i=0; while [ $i -lt ${count} ]; do ${one}; done >/dev/null; echo done`];
}
