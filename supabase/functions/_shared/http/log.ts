/**
 * All fields that a log line may have. No tokens, titles, user ids or texts of others. When adding
 * a field, consider whether it reveals something about a person.
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
  /** Text written in this code base. */
  readonly reason?: string;
}

export type Log = (line: LogLine) => void;

/** Writes each line as one JSON object to the console, where the platform collects them. */
export const consoleLog: Log = (line) => console.log(JSON.stringify(line));
