//! What a start costs: every page of a full data directory, 300 MB, read and checked once.

use std::sync::atomic::{AtomicU16, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use raida::coin::{PAGES, PageNumber};
use raida::store::control::UsedPages;
use raida::store::layout::PageFrame;
use raida::store::pages::{PageWriter, read_all_pages};
use raida::store::recovery;
use raida::store::storage::Directory;

fn read_every_page(criterion: &mut Criterion) {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let directory = Directory::open(place.path()).expect("a lock");
    recovery::initialise(&directory, Default::default()).expect("an empty data directory");
    let mut used = UsedPages::none();
    let mut writer = PageWriter::new(&directory, 0);
    let mut frame = PageFrame::zeroed();
    for page in PageNumber::all() {
        frame.seal(page, 1);
        writer.add(page, &frame).expect("room on the disk");
        used.insert(page);
    }
    writer.finish().expect("room on the disk");

    let mut group = criterion.benchmark_group("read every page");
    group.sample_size(10);
    for threads in [1, 2, 4] {
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter(|| {
                let pages = AtomicU16::new(0);
                let count = |_: &mut (), _, _: &PageFrame, _| {
                    pages.fetch_add(1, Ordering::Relaxed);
                };
                read_all_pages(&directory, &used, threads, count).expect("whole pages");
                assert_eq!(pages.into_inner(), PAGES);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read_every_page);
criterion_main!(benches);
