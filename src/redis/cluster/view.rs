//! What a node says of its cluster, from the text of `CLUSTER NODES`.

use super::super::address::Node;

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The highest configuration epoch: how often it was agreed upon that slots change hands.
    pub(super) epoch: u64,
    /// Those that have slots, in the order of their first.
    pub(super) shards: Vec<Shard>,
}

/// A primary, with what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) primary: Node,
    /// Replicas that are well and in touch.
    pub(super) replicas: Vec<Node>,
    /// First and last slot of each range.
    slots: Vec<(u16, u16)>,
}

impl View {
    /// From the answer of the node that was reached at `asked`, which may not know its own address.
    pub(super) fn parse(text: &str, asked: &Node) -> Self {
        let lines: Vec<Line<'_>> = text.lines().filter_map(|it| Line::parse(it, asked)).collect();
        let mut shards: Vec<Shard> = lines
            .iter()
            .filter(|it| it.is("master") && !it.slots.is_empty())
            .map(|primary| Shard {
                primary: primary.node.clone(),
                replicas: lines
                    .iter()
                    .filter(|it| it.is("slave") && it.is_well() && it.of == primary.id)
                    .map(|it| it.node.clone())
                    .collect(),
                slots: primary.slots.clone(),
            })
            .collect();
        shards.sort_by_key(|it| it.slots.first().copied());
        let epochs = lines.iter().filter(|it| it.is("master") && !it.slots.is_empty());
        Self { epoch: epochs.map(|it| it.epoch).max().unwrap_or(0), shards }
    }

    /// Every node that is said to be well enough to be asked.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(|it| std::iter::once(&it.primary).chain(&it.replicas))
    }
}

impl Shard {
    pub(super) fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// `id address flags primary ping pong epoch link slot…` (Redis documentation, *CLUSTER NODES*).
struct Line<'a> {
    id: &'a str,
    node: Node,
    flags: &'a str,
    of: &'a str,
    epoch: u64,
    link: &'a str,
    slots: Vec<(u16, u16)>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str, asked: &Node) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (id, address, flags, of) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let (_ping, _pong) = (words.next()?, words.next()?);
        let (epoch, link) = (words.next()?.parse().ok()?, words.next()?);
        // A slot in brackets is on its way, and still its owner's.
        let slots = words.filter(|it| !it.starts_with('[')).filter_map(range).collect();
        let line = Self { id, node: address_of(address, asked)?, flags, of, epoch, link, slots };
        (!line.is("noaddr") && !line.is("handshake")).then_some(line)
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.split(',').any(|it| it == flag)
    }

    fn is_well(&self) -> bool {
        !self.is("fail") && !self.is("fail?") && self.link == "connected"
    }
}

/// `host:port@bus-port[,hostname]`; a node that nobody has met has no host. A host that announces its name is reached
/// by it, as certificates want it.
fn address_of(address: &str, asked: &Node) -> Option<Node> {
    let (place, bus) = address.split_once('@')?;
    let (host, port) = place.rsplit_once(':')?;
    let name = bus.split(',').nth(1).filter(|it| !it.is_empty() && !it.contains('='));
    let host = name.or((!host.is_empty()).then_some(host)).unwrap_or(&asked.host);
    Some(Node { host: host.to_owned(), port: port.parse().ok()? })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_cluster_is_read_as_redis_says_it() {
        // From the documentation of CLUSTER NODES, with a slot on its way and a replica that is gone.
        let text = "\
07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected
67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922
2927 127.0.0.1:30003@31003 master - 0 1426238318243 3 connected 10923-16383
6ec2 127.0.0.1:30005@31005 slave 67ed 0 1426238316232 5 connected
824f 127.0.0.1:30006@31006 slave,fail 2927 0 1426238317741 6 disconnected
e7d1 :30001@31001 myself,master - 0 0 7 connected 0-5459 5460 [93-<-2927]
aaaa :0@0 master,noaddr - 0 0 9 disconnected
";
        let view = View::parse(text, &node(1));
        assert_eq!(view.epoch, 7);
        let primaries: Vec<_> = view.shards.iter().map(|it| it.primary.port).collect();
        assert_eq!(primaries, [30_001, 30_002, 30_003]);
        assert_eq!(view.shards[0].primary.host, "127.0.0.1", "its own, by which it was asked");
        assert_eq!(view.shards[0].replicas, [Node { host: "host4".to_owned(), port: 30_004 }]);
        assert_eq!(view.shards[1].replicas, [node(30_005)]);
        assert!(view.shards[2].replicas.is_empty());
        assert!(view.shards[0].has(5460) && !view.shards[0].has(5461));
        assert_eq!(view.nodes().count(), 5);
    }

    #[test]
    fn what_is_no_cluster_has_no_shards() {
        for text in ["", "x", "a b c d e f g h", "id 1.2.3.4 master - 0 0 1 connected 0-1"] {
            assert_eq!(View::parse(text, &node(1)), View::default(), "{text}");
        }
    }
}
