/**
 * All that a line of the log may say. No tokens, titles, ids of users or texts of others: whoever adds a field adds it here, and
 * asks whether it tells something of a person.
 */
export interface LogLine {
  readonly level: "info" | "warn" | "error";
  readonly function: string;
  readonly request_id?: string;
  readonly method?: string;
  readonly status?: number;
  readonly ms?: number;
  readonly source?: string;
  readonly cached?: boolean;
  readonly partial?: boolean;
  /** Words of ours. */
  readonly reason?: string;
}

export type Log = (line: LogLine) => void;

/** One JSON object a line, where the platform collects them. */
export const consoleLog: Log = (line) => console.log(JSON.stringify(line));
