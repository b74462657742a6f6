//! Numbered things in the order of a key: what is listed, and what is sold first.
//!
//! A treap: a search tree by key that is a heap by priority. A thing's priority is drawn from its number and a
//! secret of the shard, so no choice of keys makes the tree deep: coming, going and finding take about
//! 2 · log2(things) steps. Nodes stand in an array by thing number, and nothing is allocated but when there
//! are more things than ever before.

use std::ops::ControlFlow;

use super::keyed_hash::KeyedHash;
use super::slots::NONE;
use crate::entropy::mix;

/// A place in the tree. The place of a thing that is not in it has no key.
#[derive(Clone, Copy)]
struct Node<K> {
    key: Option<K>,
    left: u32,
    right: u32,
}

/// Things, by number, in the order of their keys; of equal keys the lower number is first.
pub struct Ordered<K> {
    seed: u64,
    nodes: Vec<Node<K>>,
    root: u32,
}

impl<K: Copy + Ord> Ordered<K> {
    const ABSENT: Node<K> = Node { key: None, left: NONE, right: NONE };

    /// Nothing yet.
    pub fn new(hash: KeyedHash) -> Self {
        Self { seed: hash.number(0), nodes: Vec::new(), root: NONE }
    }

    /// Puts a thing in.
    ///
    /// # Panics
    /// When it is in already.
    pub fn insert(&mut self, number: u32, key: K) {
        assert!(number != NONE);
        let index = number as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, Self::ABSENT);
        }
        assert!(self.nodes[index].key.is_none());
        self.nodes[index].key = Some(key);
        self.root = self.insert_below(self.root, number);
    }

    /// Takes a thing out.
    ///
    /// # Panics
    /// When it is not in.
    pub fn remove(&mut self, number: u32) {
        let at = self.place(number);
        self.root = self.remove_below(self.root, at);
        self.nodes[number as usize] = Self::ABSENT;
    }

    /// Shows the things whose key is `from` or more, in order, as long as `visit` goes on.
    pub fn visit_from(&self, from: K, mut visit: impl FnMut(K, u32) -> ControlFlow<()>) {
        // Whether it was broken off, the visitor knows.
        let _ = self.visit_below(self.root, &from, &mut visit);
    }

    fn node(&self, number: u32) -> &Node<K> {
        &self.nodes[number as usize]
    }

    fn node_mut(&mut self, number: u32) -> &mut Node<K> {
        &mut self.nodes[number as usize]
    }

    fn place(&self, number: u32) -> (K, u32) {
        (self.node(number).key.expect("the thing is in the tree"), number)
    }

    fn priority(&self, number: u32) -> u64 {
        mix(self.seed ^ u64::from(number))
    }

    fn insert_below(&mut self, tree: u32, number: u32) -> u32 {
        if tree == NONE || self.priority(number) > self.priority(tree) {
            let (left, right) = self.split(tree, self.place(number));
            let node = self.node_mut(number);
            (node.left, node.right) = (left, right);
            return number;
        }
        if self.place(number) < self.place(tree) {
            let left = self.insert_below(self.node(tree).left, number);
            self.node_mut(tree).left = left;
        } else {
            let right = self.insert_below(self.node(tree).right, number);
            self.node_mut(tree).right = right;
        }
        tree
    }

    fn remove_below(&mut self, tree: u32, at: (K, u32)) -> u32 {
        let Node { left, right, .. } = *self.node(tree);
        match at.cmp(&self.place(tree)) {
            std::cmp::Ordering::Equal => return self.merge(left, right),
            std::cmp::Ordering::Less => self.node_mut(tree).left = self.remove_below(left, at),
            std::cmp::Ordering::Greater => self.node_mut(tree).right = self.remove_below(right, at),
        }
        tree
    }

    /// Two trees of one: what comes before `at`, and the rest.
    fn split(&mut self, tree: u32, at: (K, u32)) -> (u32, u32) {
        if tree == NONE {
            return (NONE, NONE);
        }
        if self.place(tree) < at {
            let (before, after) = self.split(self.node(tree).right, at);
            self.node_mut(tree).right = before;
            (tree, after)
        } else {
            let (before, after) = self.split(self.node(tree).left, at);
            self.node_mut(tree).left = after;
            (before, tree)
        }
    }

    /// One tree of two, all of the first before all of the second.
    fn merge(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE || after == NONE {
            return if before == NONE { after } else { before };
        }
        if self.priority(before) > self.priority(after) {
            let right = self.merge(self.node(before).right, after);
            self.node_mut(before).right = right;
            before
        } else {
            let left = self.merge(before, self.node(after).left);
            self.node_mut(after).left = left;
            after
        }
    }

    fn visit_below(&self, tree: u32, from: &K, visit: &mut impl FnMut(K, u32) -> ControlFlow<()>) -> ControlFlow<()> {
        if tree == NONE {
            return ControlFlow::Continue(());
        }
        let (key, number) = self.place(tree);
        if key >= *from {
            self.visit_below(self.node(tree).left, from, visit)?;
            visit(key, number)?;
        }
        self.visit_below(self.node(tree).right, from, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::keyed_hash::tests::Seeded;
    use super::*;

    fn depth(tree: &Ordered<u32>, at: u32) -> usize {
        if at == NONE { 0 } else { 1 + depth(tree, tree.node(at).left).max(depth(tree, tree.node(at).right)) }
    }

    #[test]
    fn keys_in_order_do_not_make_a_deep_tree() {
        let mut tree = Ordered::new(KeyedHash::new(&mut Seeded(1)));
        for number in 0..10_000 {
            tree.insert(number, number);
        }
        assert!(depth(&tree, tree.root) < 60, "{}", depth(&tree, tree.root));
    }

    #[test]
    #[should_panic(expected = "the thing is in the tree")]
    fn what_is_not_in_cannot_go() {
        let mut tree = Ordered::new(KeyedHash::new(&mut Seeded(1)));
        tree.insert(3, 0u32);
        tree.remove(2);
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((0u32..40, 0u32..20), 1..200)) {
            let mut tree = Ordered::new(KeyedHash::new(&mut Seeded(2)));
            let mut keys = BTreeMap::new();
            for (number, key) in steps {
                if keys.remove(&number).is_some() {
                    tree.remove(number);
                } else {
                    tree.insert(number, key);
                    keys.insert(number, key);
                }
                let sorted: BTreeSet<_> = keys.iter().map(|(&number, &key)| (key, number)).collect();
                for from in [0, key, key + 1] {
                    let expected: Vec<_> = sorted.range((from, 0)..).copied().collect();
                    let mut visited = Vec::new();
                    tree.visit_from(from, |key, number| {
                        visited.push((key, number));
                        if visited.len() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    prop_assert_eq!(&visited[..], &expected[..expected.len().min(5)]);
                }
            }
        }
    }
}
