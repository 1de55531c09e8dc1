// Parses an event stream as the HTML standard specifies (section 9.2.6).

/** An event before its data is parsed as JSON. */
export interface RawEvent {
  name: string;
  data: string;
  id?: string;
}

/** Parses the stream of one connection. */
export class EventStreamParser {
  /** Milliseconds to wait before a reconnect, if the stream has set them. */
  retryMs?: number;
  #buffer = "";
  #eventName = "";
  #dataLines: string[] = [];
  #lastId?: string;

  /** Yields the events that `text`, the next chunk of the stream, completes. */
  *feed(text: string): Generator<RawEvent> {
    // A CR at the end may be the first half of a CRLF.
    const buffered = this.#buffer + text;
    const end = buffered.endsWith("\r") ? buffered.length - 1 : buffered.length;
    const lines = buffered.slice(0, end).split(/\r\n|\r|\n/);
    this.#buffer = (lines.pop() ?? "") + buffered.slice(end);
    for (const line of lines) {
      const event = this.#parseLine(line);
      if (event) yield event;
    }
  }

  #parseLine(line: string): RawEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#eventName = value;
    else if (field === "data") this.#dataLines.push(value);
    else if (field === "id" && !value.includes("\0")) this.#lastId = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
    return undefined;
  }

  #dispatch(): RawEvent | undefined {
    const [name, data] = [this.#eventName || "message", this.#dataLines.join("\n")];
    [this.#eventName, this.#dataLines] = ["", []];
    if (data === "") return undefined;
    return this.#lastId === undefined ? { name, data } : { name, data, id: this.#lastId };
  }
}
