// The text of a stream made events, as the HTML standard has it (section 9.2.6).

/** An event as it comes, whatever its name. */
export interface RawEvent {
  name: string;
  data: string;
  id?: string;
}

/** Reads one connection. */
export class EventStreamParser {
  /** Milliseconds to wait before coming back, once the stream has said so. */
  retryMs?: number;
  #buffer = "";
  #eventName = "";
  #dataLines: string[] = [];
  #lastId?: string;

  /** The events that `text`, the next piece of the stream, completes. */
  *feed(text: string): Generator<RawEvent> {
    // A CR at the end may be half of a CRLF.
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
