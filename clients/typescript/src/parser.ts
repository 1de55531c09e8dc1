// The text of a stream made events, as the HTML standard has it (section 9.2.6).

/** An event as it comes, whatever its name. */
export interface RawEvent {
  name: string;
  data: string;
  id?: string;
}

/** Reads one connection. */
export class Parser {
  /** Milliseconds to wait before coming back, once the stream has said so. */
  retry?: number;
  #rest = "";
  #name = "";
  #data: string[] = [];
  #id?: string;

  /** The events that `text`, the next piece of the stream, completes. */
  *take(text: string): Generator<RawEvent> {
    // A CR at the end may be half of a CRLF.
    const all = this.#rest + text;
    const end = all.endsWith("\r") ? all.length - 1 : all.length;
    const lines = all.slice(0, end).split(/\r\n|\r|\n/);
    this.#rest = (lines.pop() ?? "") + all.slice(end);
    for (const line of lines) {
      const event = this.#line(line);
      if (event) yield event;
    }
  }

  #line(line: string): RawEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
    return undefined;
  }

  #dispatch(): RawEvent | undefined {
    const [name, data] = [this.#name || "message", this.#data.join("\n")];
    [this.#name, this.#data] = ["", []];
    if (data === "") return undefined;
    return this.#id === undefined ? { name, data } : { name, data, id: this.#id };
  }
}
